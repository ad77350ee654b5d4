# SPDX-License-Identifier: GPL-2.0
# A chart as PNG and SVG: gnuplot -e "data='FILE.dat'; name='FILE'" chart.gnuplot
# The first line of FILE is a comment with the title, then a block per curve,
# its first line the curve's name.
title = system("head -n 1 '".data."' | cut -c 3-")
stats data using 1 nooutput
blocks = STATS_blocks
# The order of the key is that of the curves at their right end.
order = system("awk 'BEGIN { b = -1 } /^\"/ { b++ } /^[0-9]/ { last[b] = $2 } \
	END { for (i = 0; i <= b; i++) print last[i], i }' '".data."' | sort -rg | awk '{ print $2 }'")

set title title font ",13"
set logscale x 2
set logscale y 10
set xtics ("4K" 4096, "16K" 16384, "64K" 65536, "256K" 262144, "1M" 1048576)
set xrange [3500:1250000]
set xlabel "I/O size"
set ylabel "MiB/s (log)"
set grid xtics ytics mytics lw 0.5 lc rgb "#b0b0b0"
set key outside right center Left reverse spacing 1.4
set border 3
set tics nomirror
color(i) = word("#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9 #000000 #999999", i % 8 + 1)

do for [format in "png svg"] {
	if (format eq "png") { set terminal pngcairo noenhanced size 1000, 560 font "sans,11" } \
	else { set terminal svg noenhanced size 1000, 560 font "sans,11" }
	set output name.".".format
	plot for [b in order] data index int(b) using 1:2:3:4 with yerrorlines \
		lc rgb color(int(b)) pt 4 + int(b) ps 1.1 lw 2 \
		title system("awk 'BEGIN { b = -1 } /^\"/ { b++; if (b == ".b.") { gsub(/\"/, \"\"); print } }' '".data."'")
	unset output
}
