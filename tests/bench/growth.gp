# Instructions over the array's size: data (blocks, each with its name), out, names
# (how many blocks), heading.
set terminal svg size 900,420 dynamic background rgb 'white'
set output out
set title heading noenhanced
set xlabel 'array'
set ylabel 'instructions of the core'
set logscale x 2
set logscale y
set grid
set xtics ('1 GiB' 1, '32 GiB' 32, '1 TiB' 1024, '16 TiB' 16384, '256 TiB' 262144, '1 PiB' 1048576, '16 PiB' 16777216)
set xrange [0.7:3e7]
set key outside right noenhanced
plot for [i=0:int(names)-1] data index i using 1:2 with linespoints title columnheader(1)
