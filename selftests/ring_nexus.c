// SPDX-License-Identifier: GPL-2.0
/*
 * ring_nexus: If somebody else is deleting a disk, the nexus of its loopback
 * port stays until the disk's commands are done.
 */
#include "zc_test.h"
#include <sys/syscall.h>

#define LEN	(64 * KB)

FIXTURE(ring_nexus) {
	struct zc z;
	char *buf;
	struct zc_io io;
};

FIXTURE_SETUP(ring_nexus)
{
	struct tzc_opts o = TZC_OPTS_STOCK;

	o.time_out = 0;
	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, self->buf);
}

FIXTURE_TEARDOWN(ring_nexus)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* A thread that is going to wait in the kernel */
struct waiter {
	pthread_t thr;
	int tid;
	char path[300];
	int ret;
};

static void *delete_disk(void *arg)
{
	struct waiter *w = arg;

	__atomic_store_n(&w->tid, syscall(__NR_gettid), __ATOMIC_RELEASE);
	w->ret = tzc_write_file(w->path, "1");
	return NULL;
}

static void *unlink_lun(void *arg)
{
	struct waiter *w = arg;

	__atomic_store_n(&w->tid, syscall(__NR_gettid), __ATOMIC_RELEASE);
	w->ret = unlink(w->path) ? -errno : 0;
	return NULL;
}

static bool is_waiting(void *arg)
{
	struct waiter *w = arg;
	int tid = __atomic_load_n(&w->tid, __ATOMIC_ACQUIRE);
	char path[64], stat[256], *p;

	if (!tid)
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	if (tzc_read_file(path, stat, sizeof(stat)) <= 0)
		return false;
	p = strrchr(stat, ')');
	return p && p[1] == ' ' && p[2] == 'D';
}

TEST_F(ring_nexus, deleted_and_unlinked)
{
	struct waiter del = { }, lun = { };
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	char nexus[256];

	cmd = CATCH_IO(&self->io, false, TZC_WRITE, self->buf, LEN, T_OFF);
	tzc_tpg_path(&z->dev, nexus, sizeof(nexus), "/nexus");

	/* The disk is going, and waits for the command. */
	snprintf(del.path, sizeof(del.path), "/sys/block/%s/device/delete",
		 z->dev.sd);
	ASSERT_EQ(0, pthread_create(&del.thr, NULL, delete_disk, &del));
	ASSERT_EQ(0, tzc_wait_for(is_waiting, &del, SOON));

	/* So is the LUN, and waits for either. */
	tzc_tpg_path(&z->dev, lun.path, sizeof(lun.path), "/lun/lun_0/tzc");
	ASSERT_EQ(0, pthread_create(&lun.thr, NULL, unlink_lun, &lun));
	ASSERT_EQ(0, tzc_wait_for(is_waiting, &lun, SOON));

	EXPECT_GT(0, tzc_write_file(nexus, "NULL"));
	zc_serve(z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	/* Deleting it flushes its cache, and more. */
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	pthread_join(del.thr, NULL);
	pthread_join(lun.thr, NULL);
	EXPECT_EQ(0, del.ret);
	EXPECT_EQ(0, lun.ret);
	EXPECT_EQ(0, tzc_write_file(nexus, "NULL"));
}

TZC_MAIN(0)
