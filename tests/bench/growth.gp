# Instructions over the array's size: data (blocks, each with its name), out, names
# (how many blocks), heading.
set terminal svg size 900,420 dynamic background rgb 'white'
set output out
set title heading noenhanced
set xlabel 'array, GiB'
set ylabel 'instructions of the core'
set logscale x 2
set logscale y
set grid
set key outside right noenhanced
plot for [i=0:int(names)-1] data index i using 1:2 with linespoints title columnheader(1)
