# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
# Packages from the Debian archive that this machine's apt knows, of any suite
# and without a change to the system. Sourced after lib.sh.

# The archive this machine already uses, not its security mirror.
debian_mirror() {
	local uri
	if [ -n "${DEBIAN_MIRROR:-}" ]; then echo "$DEBIAN_MIRROR"; return; fi
	command -v apt-get >/dev/null ||
		die "no apt here to take a Debian mirror from; set DEBIAN_MIRROR"
	# Without package lists apt cannot say whose an archive is: go by its name.
	# shellcheck disable=SC2016
	uri=$(apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "Debian" && $2 == "main" && !/security/ { print $3; exit }')
	# shellcheck disable=SC2016
	[ -n "$uri" ] || uri=$(apt-get indextargets --format '$(COMPONENT) $(REPO_URI)' |
		awk '/main/ && /debian/ && !/security/ { print $NF; exit }')
	[ -n "$uri" ] ||
		die "this machine's apt knows no Debian archive; set DEBIAN_MIRROR"
	echo "$uri"
}

# private_apt SUITE [TYPE]: has apt use a state of our own, with the index of
# that suite alone, so that neither the system's sources nor its lists change.
# TYPE is deb or deb-src. Fails, with apt's complaints shown, if there is no
# index to be had. In a subshell if something else needs the system's apt.
private_apt() {
	local suite=$1 type=${2:-deb} mirror state
	local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	state=$CACHE/apt/$suite-$type
	[ -f "$keyring" ] || die "$keyring is missing; run: make deps"
	mirror=$(debian_mirror) || exit
	mkdir -p "$state/lists/partial" "$state/cache/archives/partial" || die "cannot create $state"
	echo "$type [signed-by=$keyring] $mirror $suite main" >"$state/sources.list"
	cat >"$state/apt.conf" <<-END
		Dir::State::Lists "$state/lists";
		Dir::Cache "$state/cache";
		Dir::Etc::sourcelist "$state/sources.list";
		Dir::Etc::sourceparts "/dev/null";
		Acquire::Languages "none";
		Acquire::Retries "2";
		APT::Sandbox::User "";
		APT::Update::Error-Mode "any";
	END
	export APT_CONFIG=$state/apt.conf
	apt-get update -q >"$state/log" 2>&1 && return
	sed -n 's/^[EW]: */  /p' "$state/log" >&2
	return 1
}

# debian_download TYPE SUITE DIR PACKAGE...: these packages of the suite into
# DIR, binary (TYPE deb) or source (deb-src). NAME=VERSION is the newest whose
# version begins so. A source's .dsc appears last: what it names is there then.
# HINT is added when something can't be had. A subshell, so that apt's state and
# the lock are its own.
debian_download() (
	type=$1 suite=$2 dir=$3 hint=${HINT:+; $HINT} found=()
	shift 3
	case $type in
	deb) get='apt-get download' ;;
	deb-src) get='apt-get source --download-only' ;;
	esac
	mirror=$(debian_mirror) || exit
	lock "$CACHE/apt"
	say "looking for $* in $suite at $mirror"
	private_apt "$suite" "$type" || die "cannot reach $mirror for $* of $suite$hint"
	for package; do
		version=$(apt-cache madison "${package%%=*}" |
			awk -v begin="${package#"${package%%=*}"}" 'index("=" $3, begin) == 1 || begin == "" { print $3; exit }')
		[ -n "$version" ] || die "no ${package/=/ } in $suite at $mirror$hint"
		found+=("${package%%=*}=$version")
	done
	say "downloading ${found[*]}"
	# apt checks it against the signed index before giving it its name.
	rm -rf "$dir/partial"
	mkdir -p "$dir/partial" || die "cannot create $dir"
	cd "$dir/partial" || exit
	out=$($get -q "${found[@]}" 2>&1) || {
		sed -n 's/^[EW]: */  /p' <<<"$out" >&2
		die "the download of ${found[*]} failed"
	}
	find . -type f ! -name '*.dsc' -exec mv -t "$dir" {} +
	find . -type f -name '*.dsc' -exec mv -t "$dir" {} +
	cd "$dir" && rmdir partial
)
