# SPDX-License-Identifier: GPL-2.0
#
# Tables, in markdown, and data for charts, from what guest.sh printed; the
# short of it goes to a file of its own:
#	awk -f report.awk -v charts=DIR -v short=FILE counts.tsv clock.tsv
# counts.tsv has the columns of clock.tsv and those of the plugin; it may be
# empty. All numbers are medians over the rounds.

BEGIN { FS = OFS = "\t" }

# --- reading
FNR == 1 {
	file = $0 ~ /k_insns/ ? "counts" : "clock"
	delete column
	for (i = 1; i <= NF; i++)
		column[$i] = i
	next
}

function field(name) { return $(column[name]) }

# A configuration is all but the contender and the size.
{
	config = field("target") SUBSEP field("threads") SUBSEP field("qd") SUBSEP \
		 field("jobs") SUBSEP field("rw")
	who = field("fabric") " " field("contender")
	bs = field("bs") + 0
	cell = config SUBSEP who SUBSEP bs
	if (!(config in seen)) {
		seen[config]
		configs[++nr_configs] = config
	}
	if (!((config, who) in seen)) {
		seen[config, who]
		whos[config] = whos[config] (whos[config] == "" ? "" : FS) who
	}
	if (!((config, bs) in seen)) {
		seen[config, bs]
		sizes[config] = sizes[config] (sizes[config] == "" ? "" : FS) bs
	}
}

file == "clock" {
	add(cell, "mibs", field("ios") * bs / 1048576 / (field("ns") / 1e9))
	add(cell, "iops", field("ios") / (field("ns") / 1e9))
	n = split("ctxt pgfault tlb_all tlb_one tlb_remote ipi_tlb ipi_call ipi_resched copied_bytes mapped_bytes inplace_bytes pages unmaps faults", names, " ")
	for (i = 1; i <= n; i++)
		if (field(names[i]) != "-" && field("counted_ios") > 0)
			add(cell, names[i], field(names[i]) / field("counted_ios"))
}

file == "counts" && field("ios") > 0 {
	n = split("k_insns u_insns k_copied u_copied", names, " ")
	for (i = 1; i <= n; i++)
		add(cell, names[i], field(names[i]) / field("ios"))
}

# --- statistics
function add(cell, what, v) { value[cell, what, ++count[cell, what]] = v }

function has(cell, what) { return (cell, what) in count }

# Sorts once, for the median and the spread.
function sort_values(cell, what,    n, i, j, v) {
	if ((cell, what) in sorted)
		return
	sorted[cell, what]
	n = count[cell, what]
	for (i = 2; i <= n; i++) {
		v = value[cell, what, i]
		for (j = i - 1; j >= 1 && value[cell, what, j] > v; j--)
			value[cell, what, j + 1] = value[cell, what, j]
		value[cell, what, j + 1] = v
	}
}

function median(cell, what,    n) {
	sort_values(cell, what)
	n = count[cell, what]
	if (n % 2)
		return value[cell, what, (n + 1) / 2]
	return (value[cell, what, n / 2] + value[cell, what, n / 2 + 1]) / 2
}

# Half of the distance from the least to the most, in percent of the median.
function spread(cell, what,    m) {
	m = median(cell, what)
	if (m == 0)
		return 0
	return 50 * (value[cell, what, count[cell, what]] - value[cell, what, 1]) / m
}

# --- words
function size_name(bs) { return bs >= 1048576 ? bs / 1048576 "M" : bs / 1024 "K" }

function who_name(who,    part) {
	split(who, part, " ")
	if (part[1] == "none")
		return "null_blk"
	if (part[1] == "ublk")
		return "ublk " (part[2] == "copy" ? "copy" : (length(part[2]) == 1 ? "-" : "--") part[2])
	sub(/^loop/, "tcm_loop", part[1])
	sub(/^iscsi/, "iSCSI", part[1])
	if (part[2] == "rd")
		return part[1] " rd_mcp nullio"
	sub(/inplace/, "in place", part[2])
	return part[1] " tcmu " part[2]
}

function config_name(config,    part, s) {
	split(config, part, SUBSEP)
	s = part[5] ", " part[1] " handler"
	s = s (part[2] > 0 ? ", " part[2] " threads" : ", one thread")
	return s ", depth " part[3] ", " part[4] (part[4] > 1 ? " jobs" : " job")
}

function number(v) {
	if (v >= 100)
		return sprintf("%.0f", v)
	if (v >= 10)
		return sprintf("%.1f", v)
	if (v < 0.005)
		return "0"
	return sprintf("%.2f", v)
}

function thousands(v) {
	return v >= 1000 ? sprintf("%.*fk", v >= 100000 ? 0 : 1, v / 1000) : sprintf("%.0f", v)
}

function table_head(list,    s, i, n, size) {
	n = split(list, size, FS)
	s = "| |"
	for (i = 1; i <= n; i++)
		s = s " " size_name(size[i]) " |"
	s = s "\n|---|"
	for (i = 1; i <= n; i++)
		s = s "--:|"
	return s
}

# --- the clock
function throughput_table(config, what, unit,    who, size, i, j, n, m, cell, v) {
	printf "\n%s:\n\n%s\n", unit, table_head(sizes[config])
	n = split(whos[config], who, FS)
	m = split(sizes[config], size, FS)
	for (i = 1; i <= n; i++) {
		printf "| %s |", who_name(who[i])
		for (j = 1; j <= m; j++) {
			cell = config SUBSEP who[i] SUBSEP size[j]
			if (!has(cell, what)) {
				printf " - |"
				continue
			}
			v = median(cell, what)
			printf " %s ±%.0f %% |", what == "iops" ? thousands(v) : number(v), spread(cell, what)
		}
		print ""
	}
}

function ratio(config, a, b, bs,    x, y) {
	x = config SUBSEP a SUBSEP bs
	y = config SUBSEP b SUBSEP bs
	if (!has(x, "mibs") || !has(y, "mibs") || median(y, "mibs") == 0)
		return "-"
	return number(median(x, "mibs") / median(y, "mibs"))
}

function ratio_table(config,    who, size, i, j, n, m, part) {
	printf "\nRatio to copying / to ublk -z / to the fabric's ceiling (rd_mcp nullio):\n\n%s\n", table_head(sizes[config])
	n = split(whos[config], who, FS)
	m = split(sizes[config], size, FS)
	for (i = 1; i <= n; i++) {
		split(who[i], part, " ")
		if (part[2] != "mapped" && part[2] != "inplace")
			continue
		printf "| %s |", who_name(who[i])
		for (j = 1; j <= m; j++)
			printf " %s / %s / %s |", ratio(config, who[i], part[1] " copy", size[j]), \
				ratio(config, who[i], "ublk z", size[j]), \
				ratio(config, who[i], part[1] " rd", size[j])
		print ""
	}
}

# --- the counters
function per_io(cell, what) { return has(cell, what) ? number(median(cell, what)) : "-" }

function per_byte(cell, what, bs) { return has(cell, what) ? sprintf("%.2f", median(cell, what) / bs) : "-" }

function count_table(config, bs, out,    who, i, n, cell) {
	printf "\n%s, %s:\n\n", config_name(config), size_name(bs) >out
	print "| | copied by the kernel | by tcmu | by user space | PTEs set, cleared | page faults | unmaps | full flushes | pages flushed | shootdown IPIs | call IPIs | wakeup IPIs | context switches | kernel instructions | user instructions |" >out
	print "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|" >out
	n = split(whos[config], who, FS)
	for (i = 1; i <= n; i++) {
		cell = config SUBSEP who[i] SUBSEP bs
		if (!has(cell, "mibs"))
			continue
		printf "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", who_name(who[i]), \
			per_byte(cell, "k_copied", bs), per_byte(cell, "copied_bytes", bs), \
			per_byte(cell, "u_copied", bs), per_io(cell, "pages"), per_io(cell, "pgfault"), \
			per_io(cell, "unmaps"), per_io(cell, "tlb_all"), per_io(cell, "tlb_one"), \
			per_io(cell, "ipi_tlb"), per_io(cell, "ipi_call"), per_io(cell, "ipi_resched"), per_io(cell, "ctxt"), \
			has(cell, "k_insns") ? thousands(median(cell, "k_insns")) : "-", \
			has(cell, "u_insns") ? thousands(median(cell, "u_insns")) : "-" >out
	}
}

# --- the short of it
# With the instructions of the kernel come those of user space.
function amount(cell, what) { return median(cell, what) + (what == "k_insns" ? median(cell, "u_insns") : 0) }

# A row: the geometric mean of a's ratio to b, over all configurations with rw.
function mean_row(name, rw, a, b, what, bss, nr,    i, j, n, sum, part, x, y) {
	printf "| %s, %s |", rw, name >short
	for (j = 1; j <= nr; j++) {
		n = sum = 0
		for (i = 1; i <= nr_configs; i++) {
			split(configs[i], part, SUBSEP)
			x = configs[i] SUBSEP a SUBSEP bss[j]
			y = configs[i] SUBSEP b SUBSEP bss[j]
			if (part[5] != rw || !has(x, what) || !has(y, what))
				continue
			sum += log(amount(x, what) / amount(y, what))
			n++
		}
		printf " %s |", n ? sprintf("%.2f", exp(sum / n)) : "-" >short
	}
	print "" >short
}

function mean_table(what,    bss, nr, all, i, j, k, n, size, list, dir, rw) {
	for (i = 1; i <= nr_configs; i++) {
		n = split(sizes[configs[i]], size, FS)
		for (j = 1; j <= n; j++)
			if (!(size[j] in all)) {
				all[size[j]]
				nr++
				for (k = nr; k > 1 && bss[k - 1] > size[j] + 0; k--)
					bss[k] = bss[k - 1]
				bss[k] = size[j] + 0
			}
	}
	list = bss[1]
	for (j = 2; j <= nr; j++)
		list = list FS bss[j]
	printf "\n%s\n", table_head(list) >short
	split("randread randwrite", dir, " ")
	for (i = 1; i <= 2; i++) {
		rw = dir[i]
		mean_row("tcm_loop: mapped / copy", rw, "loop mapped", "loop copy", what, bss, nr)
		mean_row("iSCSI: mapped / copy", rw, "iscsi mapped", "iscsi copy", what, bss, nr)
		mean_row("iSCSI: in place / copy", rw, "iscsi inplace", "iscsi copy", what, bss, nr)
		mean_row("iSCSI: in place / mapped", rw, "iscsi inplace", "iscsi mapped", what, bss, nr)
	}
}

# --- from which size on it pays
# The least size of those measured from which on a is never worse than b.
function break_even(config, a, b, what,    size, m, j, x, y, from) {
	m = split(sizes[config], size, FS)
	from = ""
	for (j = m; j >= 1; j--) {
		x = config SUBSEP a SUBSEP size[j]
		y = config SUBSEP b SUBSEP size[j]
		if (!has(x, what) || !has(y, what))
			return "-"
		if (what == "k_insns" ? amount(x, what) > amount(y, what) : amount(x, what) < amount(y, what))
			break
		from = size_name(size[j])
	}
	return from == "" ? "none" : from
}

function break_even_table(    i, j, n, who, part) {
	print "\n## From which size on mapping pays\n"
	print "The smallest size measured from which on, at all larger ones, too, the contender"
	print "is not slower than copying, and executes no more instructions. The default of"
	print "`zero_copy_min_bytes` follows from the rows of tcm_loop and of \"mapped\".\n"
	print "| | by the clock | by instructions |\n|---|--:|--:|"
	for (i = 1; i <= nr_configs; i++) {
		n = split(whos[configs[i]], who, FS)
		for (j = 1; j <= n; j++) {
			split(who[j], part, " ")
			if (part[2] != "mapped" && part[2] != "inplace")
				continue
			printf "| %s, %s | %s | %s |\n", who_name(who[j]), config_name(configs[i]), \
				break_even(configs[i], who[j], part[1] " copy", "mibs"), \
				break_even(configs[i], who[j], part[1] " copy", "k_insns")
		}
	}
}

# --- the charts: a file for each fabric and direction, a block for each curve
function chart_data(config, fabric,    part, name, who, size, i, j, n, m, cell, of) {
	split(config, part, SUBSEP)
	m = split(sizes[config], size, FS)
	# The other configurations have too few sizes for a curve.
	if (part[3] != 8 || part[4] != 1)
		return
	name = charts "/" fabric "-" part[5] "-" part[1] "-" part[2] "t-qd" part[3] "-" part[4] "j.dat"
	n = split(whos[config], who, FS)
	printf "# %s, %s\n", fabric == "loop" ? "tcm_loop" : fabric == "iscsi" ? "iSCSI" : "ublk", config_name(config) >name
	for (i = 1; i <= n; i++) {
		split(who[i], of, " ")
		# ublk's chart has the best of tcmu to compare with, the others its -z.
		if (of[1] != fabric && !(fabric == "ublk" && (who[i] == "none null_blk" || who[i] == "loop mapped")) &&
		    !(fabric != "ublk" && who[i] == "ublk z"))
			continue
		printf "\"%s\"\n", who_name(who[i]) >name
		for (j = 1; j <= m; j++) {
			cell = config SUBSEP who[i] SUBSEP size[j]
			if (has(cell, "mibs"))
				printf "%d %.1f %.1f %.1f\n", size[j], median(cell, "mibs"), \
					value[cell, "mibs", 1], value[cell, "mibs", count[cell, "mibs"]] >name
		}
		printf "\n\n" >name
	}
	close(name)
}

END {
	print "## Throughput"
	print "\nMedians, and half of the distance between the least and the most."
	for (c = 1; c <= nr_configs; c++) {
		printf "\n### %s\n", config_name(configs[c])
		throughput_table(configs[c], "mibs", "MiB/s")
		throughput_table(configs[c], "iops", "IOPS")
		ratio_table(configs[c])
		split(configs[c], part, SUBSEP)
		if (whos[configs[c]] ~ /loop/) chart_data(configs[c], "loop")
		if (whos[configs[c]] ~ /iscsi/) chart_data(configs[c], "iscsi")
		if (whos[configs[c]] ~ /ublk/) chart_data(configs[c], "ublk")
	}
	break_even_table()
	print "\n## Counters, per I/O"
	print "\nBytes copied are multiples of the size of the I/O."
	for (c = 1; c <= nr_configs; c++) {
		split(configs[c], part, SUBSEP)
		n = split(sizes[configs[c]], size, FS)
		for (s = 1; s <= n; s++)
			count_table(configs[c], size[s], "/dev/stdout")
	}

	print "Throughput, as a ratio: geometric means over all handlers, depths, jobs and threads." >short
	mean_table("mibs")
	print "\nInstructions of the kernel and of user space per I/O, as ratios of the same kind:" >short
	mean_table("k_insns")
	print "\nWhat was counted in some of the cells, per I/O. Bytes copied are multiples of its size." >short
	for (c = 1; c <= nr_configs; c++) {
		split(configs[c], part, SUBSEP)
		if (part[1] != "null" || part[2] > 0 || part[3] != 8 || part[4] != 1)
			continue
		count_table(configs[c], 65536, short)
		count_table(configs[c], 1048576, short)
	}
}
