// SPDX-License-Identifier: GPL-2.0
/*
 * zc_mixed: Copied and mapped commands can be in flight together and complete
 * in any order.
 */
#include "zc_test.h"

#define DEPTH	32
#define ROUNDS	12
#define REGION	(64 * PG)

FIXTURE(zc_mixed) {
	struct zc z;
};

FIXTURE_VARIANT(zc_mixed) {
	int workers;
};

FIXTURE_VARIANT_ADD(zc_mixed, in_order) { .workers = 0 };
FIXTURE_VARIANT_ADD(zc_mixed, out_of_order) { .workers = 4 };

FIXTURE_SETUP(zc_mixed)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	o.size = 2 * MB + DEPTH * REGION;
	o.min_bytes = 2 * PG;
	ASSERT_EQ(0, zc_up_workers(&self->z, &o, "ram", variant->workers));
}

FIXTURE_TEARDOWN(zc_mixed)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

struct job {
	pthread_t thr;
	int fd, nr;
	char *buf;
	const char *err;
};

static void *job_thread(void *arg)
{
	/* Copied for size, mapped, copied for layout, mapped. */
	const struct { size_t len, shift; } kinds[] = {
		{ PG, 0 }, { 4 * PG, 0 }, { 8 * PG, 512 }, { 32 * PG, 0 },
	};
	struct job *j = arg;
	off_t off = T_OFF + j->nr * REGION;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		size_t len = kinds[(i + j->nr) % 4].len;
		char *p = j->buf + kinds[(i + j->nr) % 4].shift;
		int seed = j->nr * 1000 + i + 1;

		fill(p, len, seed);
		if (do_rw(j->fd, TZC_WRITE, p, len, off) != (ssize_t)len)
			j->err = "write failed";
		memset(p, 0, len);
		if (do_rw(j->fd, TZC_READ, p, len, off) != (ssize_t)len)
			j->err = "read failed";
		if (!is_filled(p, len, seed))
			j->err = "wrong data";
		if (j->err)
			break;
	}
	return NULL;
}

TEST_F_TIMEOUT(zc_mixed, depth_32, 60)
{
	struct job jobs[DEPTH] = { };
	struct tzc_counters c;
	int i;

	for (i = 0; i < DEPTH; i++) {
		jobs[i].fd = self->z.fd;
		jobs[i].nr = i;
		jobs[i].buf = mem_get(MEM_ANON, REGION);
		ASSERT_NE(NULL, jobs[i].buf);
		ASSERT_EQ(0, pthread_create(&jobs[i].thr, NULL, job_thread,
					    &jobs[i]));
	}
	for (i = 0; i < DEPTH; i++) {
		pthread_join(jobs[i].thr, NULL);
		EXPECT_EQ(NULL, jobs[i].err) {
			TH_LOG("job %d: %s", i, jobs[i].err);
		}
	}
	c = zc_count(&self->z);
	EXPECT_EQ(DEPTH * ROUNDS, c.mapped_cmds);
	EXPECT_EQ(DEPTH * ROUNDS, c.copied_cmds);
	EXPECT_EQ(DEPTH * ROUNDS / 2, c.small);
	EXPECT_EQ(DEPTH * ROUNDS / 2, c.layout);
	/* One pass covers what completes together. */
	EXPECT_GE(c.mapped_cmds, c.unmaps);
}

TZC_MAIN(TZC_NEED_MAPPED)
