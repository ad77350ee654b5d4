// SPDX-License-Identifier: GPL-2.0
/*
 * zc_stress: Faults, completions and changes of the mappings can come all at
 * once.
 */
#include "zc_test.h"

#define JOBS	8
#define ROUNDS	60
#define REGION	(128 * PG)

FIXTURE(zc_stress) {
	struct zc z;
	volatile bool stop;
};

FIXTURE_SETUP(zc_stress)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	o.size = 2 * MB + JOBS * REGION;
	ASSERT_EQ(0, zc_up_workers(&self->z, &o, "ram", 4));
}

FIXTURE_TEARDOWN(zc_stress)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

struct job {
	FIXTURE_DATA(zc_stress) *self;
	pthread_t thr;
	int nr;
	unsigned int seed;
	char *buf;
	const char *err;
};

static void *io_job(void *arg)
{
	struct job *j = arg;
	off_t off = T_OFF + j->nr * REGION;
	int i, fd = j->self->z.fd;

	for (i = 0; i < ROUNDS && !j->err; i++) {
		size_t len = PG << rand_r(&j->seed) % 7;
		char *p = j->buf + (rand_r(&j->seed) % 4 ? 0 : 512);
		int seed = j->nr * 1000 + i + 1;

		fill(p, len, seed);
		if (do_rw(fd, TZC_WRITE, p, len, off) != (ssize_t)len)
			j->err = "write failed";
		memset(p, 0, len);
		if (do_rw(fd, TZC_READ, p, len, off) != (ssize_t)len)
			j->err = "read failed";
		if (!is_filled(p, len, seed))
			j->err = "wrong data";
	}
	return NULL;
}

/* Where commands are, mostly: the lowest part of the range. */
static char *somewhere(struct job *j)
{
	return zc_range(&j->self->z) + rand_r(&j->seed) % 4096 * PG;
}

/* Looks at whatever is there. */
static void *reader(void *arg)
{
	struct job *j = arg;

	while (!j->self->stop)
		probe_read(somewhere(j));
	return NULL;
}

/* Drops page table entries below live commands, and whole page tables. */
static void *dropper(void *arg)
{
	struct job *j = arg;

	while (!j->self->stop)
		madvise(somewhere(j), PG << rand_r(&j->seed) % 12,
			MADV_DONTNEED);
	return NULL;
}

/* Maps the device elsewhere, looks, and goes. */
static void *mapper(void *arg)
{
	struct job *j = arg;
	struct tzc_ring *r = &j->self->z.srv.ring;
	int i;

	while (!j->self->stop) {
		char *map = mmap(NULL, r->size, PROT_READ | PROT_WRITE,
				 MAP_SHARED, r->fd, 0);

		if (map == MAP_FAILED) {
			j->err = "mmap failed";
			break;
		}
		for (i = 0; i < 20; i++)
			probe_read(map + (somewhere(j) - r->map));
		munmap(map, r->size);
	}
	return NULL;
}

/* Children inherit the mappings, look, and die. */
static void *forker(void *arg)
{
	struct job *j = arg;
	int i, status;

	while (!j->self->stop) {
		pid_t pid = fork();

		if (pid < 0) {
			j->err = "fork failed";
			break;
		}
		if (!pid) {
			for (i = 0; i < 50; i++)
				probe_read(somewhere(j));
			_exit(0);
		}
		if (waitpid(pid, &status, 0) != pid || status)
			j->err = "child failed";
	}
	return NULL;
}

TEST_F_TIMEOUT(zc_stress, everything_at_once, 200)
{
	static void *(*const others[])(void *) = {
		reader, dropper, mapper, forker,
	};
	struct job jobs[JOBS + ARRAY_SIZE(others)] = { };
	struct tzc_counters c;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(jobs); i++) {
		struct job *j = &jobs[i];

		j->self = self;
		j->nr = i;
		j->seed = i + 1;
		j->buf = mem_get(MEM_ANON, REGION);
		ASSERT_NE(NULL, j->buf);
		/* A pinned page of a forking process is a story of its own. */
		madvise(j->buf, REGION, MADV_DONTFORK);
		ASSERT_EQ(0, pthread_create(&j->thr, NULL, i < JOBS ? io_job :
					    others[i - JOBS], j));
	}
	for (i = 0; i < ARRAY_SIZE(jobs); i++) {
		if (i == JOBS)
			self->stop = true;
		pthread_join(jobs[i].thr, NULL);
		EXPECT_EQ(NULL, jobs[i].err) {
			TH_LOG("job %zu: %s", i, jobs[i].err);
		}
	}
	c = zc_count(&self->z);
	EXPECT_LT(JOBS * ROUNDS, c.mapped_cmds);
	EXPECT_LT(0, c.layout);
}

TZC_MAIN(TZC_NEED_MAPPED)
