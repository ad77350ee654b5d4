# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# The sets of the series, for the scripts that work set by set. In series, a
# set begins with "# set: NAME", and "# needs: NAME..." says which ones have to
# come before it. A series without any is one set, named all.

# set_names: in the series' order
set_names() {
	awk '$1 == "#" && $2 == "set:" { print $3; seen = 1 }
	     /^[^#[:space:]]/ && !seen { print "all"; seen = 1 }' "$TOP/series"
}

# set_needs NAME: what it names itself
set_needs() {
	awk -v set="$1" '$1 == "#" && $2 == "set:" { now = $3 }
		now == set && $1 == "#" && $2 == "needs:" {
			for (i = 3; i <= NF; i++) if ($i != "-") print $i }' "$TOP/series"
}

# set_closure NAME: it and all that it needs, in the series' order
set_closure() {
	local wanted=" $1 " before="" name need
	while [ "$before" != "$wanted" ]; do
		before=$wanted
		for name in $before; do
			for need in $(set_needs "$name"); do
				[[ $wanted == *" $need "* ]] || wanted+="$need "
			done
		done
	done
	for name in $(set_names); do
		[[ $wanted != *" $name "* ]] || echo "$name"
	done
}

# set_patches NAME...: the patches of these sets
set_patches() {
	awk -v sets=" $* " 'BEGIN { now = "all" }
		$1 == "#" && $2 == "set:" { now = $3 }
		/^[^#[:space:]]/ && index(sets, " " now " ") { print $1 }' "$TOP/series"
}

# set_ends: for each set "COUNT NAME", the number of patches up to its end
set_ends() {
	local name count=0
	for name in $(set_names); do
		count=$((count + $(set_patches "$name" | wc -l)))
		echo "$count $name"
	done
}
