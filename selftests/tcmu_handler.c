// SPDX-License-Identifier: GPL-2.0
/*
 * Create a tcmu device with a loopback LUN and serve it until SIGTERM or
 * SIGINT, then take everything down again.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libtcmuzc.h"

static const struct option options[] = {
	{ "name", required_argument, NULL, 'n' },
	{ "size", required_argument, NULL, 's' },
	{ "target", required_argument, NULL, 't' },
	{ "zero-copy", required_argument, NULL, 'z' },
	{ "min-bytes", required_argument, NULL, 'm' },
	{ "max-sectors", required_argument, NULL, 'x' },
	{ "area-mb", required_argument, NULL, 'a' },
	{ "time-out", required_argument, NULL, 'o' },
	{ "threads", required_argument, NULL, 'j' },
	{ "stock", no_argument, NULL, 'k' },
	{ "cleanup", no_argument, NULL, 'c' },
	{ "help", no_argument, NULL, 'h' },
	{ }
};

static void usage(FILE *f)
{
	fprintf(f,
"tcmu_handler --target null|touch|ram|file:PATH [options]\n"
"  --name NAME        of the device (tcmuzc)\n"
"  --size BYTES       of the disk, K/M/G allowed (64M)\n"
"  --zero-copy 0|1    (1; -1 leaves the kernel's default)\n"
"  --min-bytes N      zero_copy_min_bytes (the kernel's default)\n"
"  --max-sectors N    hw_max_sectors (8192)\n"
"  --area-mb N        max_data_area_mb (64)\n"
"  --time-out SECS    cmd_time_out, 0 for none (the kernel's default)\n"
"  --threads N        worker threads; 0: the ring's reader works itself (0)\n"
"  --stock            ignore every zero-copy flag, as an old handler does\n"
"  --cleanup          remove device NAME*, left over by a crash, and exit\n"
"Prints \"ready DISK UIO DIR\" once the disk is there; its counters at the end.\n");
}

static uint64_t parse_size(const char *s)
{
	char *end;
	uint64_t v = strtoull(s, &end, 0);

	switch (*end) {
	case 'G': case 'g':
		v <<= 10;
		/* fallthrough */
	case 'M': case 'm':
		v <<= 10;
		/* fallthrough */
	case 'K': case 'k':
		v <<= 10;
	}
	return v;
}

static int fail(const char *what, int err)
{
	fprintf(stderr, "tcmu_handler: %s: %s\n", what, strerror(-err));
	return 1;
}

int main(int argc, char **argv)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;
	const char *name = "tcmuzc", *spec = NULL;
	bool stock = false, cleanup = false;
	int c, sig, ret, threads = 0;
	struct tzc_counters cnt;
	struct tzc_tgt tgt;
	struct tzc_srv srv;
	struct tzc_dev dev;
	sigset_t sigs;

	o.min_bytes = -1;
	o.area_mb = 64;
	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			name = optarg;
			break;
		case 's':
			o.size = parse_size(optarg);
			break;
		case 't':
			spec = optarg;
			break;
		case 'z':
			o.zero_copy = atoi(optarg);
			break;
		case 'm':
			o.min_bytes = parse_size(optarg);
			break;
		case 'x':
			o.max_sectors = atoi(optarg);
			break;
		case 'a':
			o.area_mb = atoi(optarg);
			break;
		case 'o':
			o.time_out = atoi(optarg);
			break;
		case 'j':
			threads = atoi(optarg);
			break;
		case 'k':
			stock = true;
			break;
		case 'c':
			cleanup = true;
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 2;
		}
	}
	if (cleanup) {
		ret = tzc_cleanup(name);
		return ret ? fail("cleanup", ret) : 0;
	}
	if (!spec || threads < 0 || threads > 16 || o.size < 2 * TZC_MB) {
		usage(stderr);
		return 2;
	}

	sigemptyset(&sigs);
	sigaddset(&sigs, SIGTERM);
	sigaddset(&sigs, SIGINT);
	sigprocmask(SIG_BLOCK, &sigs, NULL);

	ret = tzc_create(&dev, name, &o);
	if (ret)
		return fail("creating the device", ret);
	ret = tzc_tgt_open(&tgt, spec, &dev);
	if (ret) {
		fail(spec, ret);
		goto destroy;
	}
	ret = tzc_srv_open(&srv, &dev, &tgt);
	if (ret) {
		fail("opening the ring", ret);
		goto destroy;
	}
	srv.nworkers = threads;
	srv.ring.stock = stock;
	ret = tzc_srv_start(&srv);
	if (!ret)
		ret = tzc_export(&dev);
	if (ret) {
		fail("exporting the device", ret);
		goto destroy;
	}
	printf("ready /dev/%s /dev/%s %s\n", dev.sd, dev.uio, dev.dir);
	fflush(stdout);

	sigwait(&sigs, &sig);
	if (!tzc_counters(&dev, &cnt))
		tzc_counters_print(stdout, &cnt);
	/* Removing the LUN may still send commands: serve them. */
	ret = tzc_unexport(&dev);
	tzc_srv_close(&srv);
	tzc_tgt_close(&tgt);
destroy:
	c = tzc_destroy(&dev);
	if (c)
		fail("removing the device", c);
	return ret || c;
}
