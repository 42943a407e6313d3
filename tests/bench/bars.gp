# Ratios to none, in clusters: data (name, then median, min and max of each variant),
# out, names (the variants), heading, logarithmic (1: so small that only that shows them).
set terminal svg size 900,420 dynamic background rgb 'white'
set output out
set title heading noenhanced
set style data histogram
set style histogram errorbars gap 3 lw 1
set style fill solid 0.7 border lt -1
set ylabel 'ratio to no bitmap, same round'
if (logarithmic) { set logscale y; set format y '%g'; set yrange [1e-6:2] } else { set yrange [0:*] }
set grid ytics
set xtics rotate by -20 noenhanced
set key outside right
set datafile missing '?'
# the same colour in every plot
colour(name) = name eq 'llbitmap' ? '#2ca02c' : name eq 'intree' ? '#e6a23c' : \
	name eq 'classic' ? '#c0504d' : name eq 'nothing' ? '#7fb3d5' : '#bbbbbb'
plot for [i=1:words(names)] data using 3*i-1:3*i:3*i+1:xtic(1) title word(names, i) noenhanced \
		lc rgb colour(word(names, i)), \
	1 with lines lt -1 dashtype 2 notitle
