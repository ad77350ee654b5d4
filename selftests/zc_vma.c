// SPDX-License-Identifier: GPL-2.0
/*
 * zc_vma: Whatever the handler does to its mappings, completion finds the
 * pages.
 */
#include "zc_test.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define LEN	(16 * PG)

FIXTURE(zc_vma) {
	struct zc z;
	char *buf;
	struct zc_io io;
};

FIXTURE_SETUP(zc_vma)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, LEN, 1);
}

FIXTURE_TEARDOWN(zc_vma)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

static char *map_again(struct tzc_ring *r)
{
	return mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		    0);
}

TEST_F(zc_vma, two_mappings)
{
	struct tzc_ring *r = &self->z.srv.ring;
	struct tzc_cmd *cmd;
	char *p, *q, *second;

	second = map_again(r);
	ASSERT_NE(MAP_FAILED, second);
	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	q = second + (p - r->map);
	EXPECT_TRUE(is_filled(p, LEN, 1));
	EXPECT_TRUE(is_filled(q, LEN, 1));
	EXPECT_EQ(SIGBUS, probe_write(q, 'X'));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_read(q));
	munmap(second, r->size);
}

/* Only the second mapping was touched, and it is the one to lose it. */
TEST_F(zc_vma, second_mapping_only)
{
	struct tzc_ring *r = &self->z.srv.ring;
	struct tzc_cmd *cmd;
	char *q, *second;

	second = map_again(r);
	ASSERT_NE(MAP_FAILED, second);
	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	q = second + zc_map_off(&self->z, cmd->iov[0].iov_base);
	fill(q, LEN, 2);
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
	EXPECT_EQ(SIGBUS, probe_read(q));
	EXPECT_EQ(SIGBUS, probe_write(q, 'X'));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
	munmap(second, r->size);
}

/*
 * Commands are mapped ahead where the device was mapped last. Another device
 * that has its place by now must not get them: nothing would unmap them there.
 */
TEST_F(zc_vma, other_device_in_its_place)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;
	struct tzc_ring *r = &self->z.srv.ring, r2;
	struct tzc_dev dev2;
	struct tzc_cmd *cmd;
	char *place, *q;
	int i;

	ASSERT_EQ(0, tzc_create(&dev2, T_PREFIX "other", &o));
	ASSERT_EQ(0, tzc_ring_open(&r2, &dev2));
	ASSERT_EQ(r->size, r2.size);
	place = map_again(r);
	ASSERT_NE(MAP_FAILED, place);
	ASSERT_EQ(place, mmap(place, r->size, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, r2.fd, 0));
	for (i = 0; i < 5; i++) {
		cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
		q = place + zc_map_off(&self->z, cmd->iov[0].iov_base);
		EXPECT_EQ(SIGBUS, probe_read(q));
		EXPECT_TRUE(is_filled(cmd->iov[0].iov_base, LEN, 1));
		zc_serve(&self->z, cmd);
		EXPECT_EQ(LEN, zc_io_wait(&self->io));
		EXPECT_EQ(SIGBUS, probe_read(q));
	}
	munmap(place, r->size);
	tzc_ring_close(&r2);
	EXPECT_EQ(0, tzc_destroy(&dev2));
}

TEST_F(zc_vma, fork_both_touch)
{
	int to_child[2], to_parent[2], status;
	struct tzc_cmd *cmd;
	char c, *p;
	pid_t pid;

	ASSERT_EQ(0, pipe(to_child));
	ASSERT_EQ(0, pipe(to_parent));
	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, probe_write(p, 'p'));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int bad = 0;

		/* Shared with the parent, and writable here as well. */
		bad |= p[0] != 'p' ? 1 : 0;
		bad |= probe_write(p + PG, 'c') ? 2 : 0;
		if (write(to_parent[1], "t", 1) != 1 ||
		    read(to_child[0], &c, 1) != 1)
			_exit(99);
		/* The command was completed meanwhile. */
		bad |= probe_read(p) != SIGBUS ? 4 : 0;
		bad |= probe_write(p + PG, 'X') != SIGBUS ? 8 : 0;
		_exit(bad);
	}
	ASSERT_EQ(1, read(to_parent[0], &c, 1));
	EXPECT_EQ('c', p[PG]);
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	ASSERT_EQ(1, write(to_child[1], "g", 1));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ('p', self->buf[0]);
	EXPECT_EQ('c', self->buf[PG]);
}

/*
 * A forked PTE is clean, so mprotect() doesn't make it writable again: the
 * store comes to the driver, which lets it into READ data, and not into WRITE.
 */
static int store_in_child(char *p)
{
	int status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		if (mprotect(p, LEN, PROT_READ) ||
		    mprotect(p, LEN, PROT_READ | PROT_WRITE))
			_exit(99);
		_exit(probe_write(p + PG, 'c'));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

TEST_F(zc_vma, store_into_write_protected)
{
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	fill(p, LEN, 2);
	EXPECT_EQ(0, store_in_child(p));
	EXPECT_EQ('c', p[PG]);
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_EQ('c', self->buf[PG]);
	EXPECT_TRUE(is_filled(self->buf, PG, 2));

	fill(self->buf, LEN, 3);
	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, probe_read(p));
	EXPECT_EQ(SIGBUS, store_in_child(p));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 3));
}

/* The parent exits with the device; the child has the ring all the same. */
TEST_F(zc_vma, forked_child_completes)
{
	struct tzc_cmd *cmd;
	int status;
	pid_t pid;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		fill(cmd->iov[0].iov_base, LEN, 3);
		zc_done(&self->z, cmd);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 3));
	tzc_ring_resync(&self->z.srv.ring);
}

TEST_F(zc_vma, munmap_in_flight)
{
	struct tzc_ring *r = &self->z.srv.ring;
	struct tzc_cmd *cmd;
	size_t off;

	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	off = zc_map_off(&self->z, cmd->iov[0].iov_base);
	free(cmd);
	EXPECT_EQ(0, probe_read(r->map + off));
	ASSERT_EQ(0, munmap(r->map, r->size));
	r->map = map_again(r);
	ASSERT_NE(MAP_FAILED, r->map);
	r->mb = (void *)r->map;
	/* The command is found again, at its old offset. */
	tzc_ring_resync(r);
	cmd = zc_wait(&self->z);
	ASSERT_NE(NULL, cmd);
	EXPECT_EQ(off, zc_map_off(&self->z, cmd->iov[0].iov_base));
	EXPECT_TRUE(is_filled(cmd->iov[0].iov_base, LEN, 1));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_EQ(SIGBUS, probe_read(r->map + off));
}

TEST_F(zc_vma, munmap_of_the_range_only)
{
	struct tzc_ring *r = &self->z.srv.ring;
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	memset(p, 'm', LEN);
	/* A hole in the middle: three VMAs become two. */
	ASSERT_EQ(0, munmap(p + PG, 2 * PG));
	EXPECT_EQ(SIGSEGV, probe_read(p + PG));
	EXPECT_EQ(0, probe_read(p));
	EXPECT_EQ('m', p[3 * PG]);
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_all(self->buf, LEN, 'm'));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_read(p + 3 * PG));

	/* The ring needs its whole mapping for what follows. */
	ASSERT_EQ(0, munmap(r->map, r->size));
	r->map = map_again(r);
	ASSERT_NE(MAP_FAILED, r->map);
	r->mb = (void *)r->map;
}

TEST_F(zc_vma, mremap_in_flight)
{
	struct tzc_ring *r = &self->z.srv.ring;
	struct tzc_cmd *cmd;
	char *old = r->map, *to, *p;
	size_t off;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	off = zc_map_off(&self->z, cmd->iov[0].iov_base);
	memset(old + off, 'a', PG);

	to = mmap(NULL, r->size, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, to);
	p = mremap(old, r->size, r->size, MREMAP_MAYMOVE | MREMAP_FIXED, to);
	ASSERT_EQ(to, p);
	r->map = to;
	r->mb = (void *)to;
	EXPECT_EQ(SIGSEGV, probe_read(old + off));
	EXPECT_EQ('a', to[off]);
	EXPECT_EQ(0, probe_write(to + off + PG, 'b'));
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_EQ('a', self->buf[0]);
	EXPECT_EQ('b', self->buf[PG]);
	EXPECT_EQ(SIGBUS, probe_read(to + off));
	EXPECT_EQ(SIGBUS, probe_write(to + off + PG, 'X'));
}

/* A VMA of its own that begins inside the command. */
TEST_F(zc_vma, mremap_of_a_part)
{
	struct tzc_cmd *cmd;
	char *to, *p, *q;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	to = mmap(NULL, LEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, to);
	q = mremap(p + 4 * PG, 4 * PG, 4 * PG, MREMAP_MAYMOVE | MREMAP_FIXED,
		   to);
	ASSERT_EQ(to, q);
	EXPECT_EQ(0, probe_write(q, 'q'));
	EXPECT_EQ(0, probe_write(q + 3 * PG, 'Q'));
	/* What lies behind the part isn't in its VMA. */
	EXPECT_EQ(SIGSEGV, probe_read(p + 4 * PG));
	EXPECT_EQ(0, probe_write(p + 8 * PG, 'p'));
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_EQ('q', self->buf[4 * PG]);
	EXPECT_EQ('Q', self->buf[7 * PG]);
	EXPECT_EQ('p', self->buf[8 * PG]);
	EXPECT_EQ(SIGBUS, probe_read(q));
	EXPECT_EQ(SIGBUS, probe_read(p + 8 * PG));
}

/* A fault in a VMA that begins inside the command. */
TEST_F(zc_vma, fault_in_a_part)
{
	struct tzc_ring *r = &self->z.srv.ring;
	struct tzc_cmd *cmd;
	char *second, *q;

	second = map_again(r);
	ASSERT_NE(MAP_FAILED, second);
	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	q = second + zc_map_off(&self->z, cmd->iov[0].iov_base) + 4 * PG;
	ASSERT_EQ(0, munmap(second, q - second));
	ASSERT_EQ(0, probe_read(q));
	EXPECT_EQ(0, memcmp(q, self->buf + 4 * PG, LEN - 4 * PG));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_EQ(SIGBUS, probe_read(q));
	munmap(q, r->size - (q - second));
}

TEST_F(zc_vma, madvise_dontneed_in_flight)
{
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	fill(p, LEN, 6);
	ASSERT_EQ(0, madvise(p, LEN, MADV_DONTNEED));
	/* The pages are the initiator's: dropping PTEs loses nothing. */
	EXPECT_TRUE(is_filled(p, LEN, 6));
	/* Some of them only, and back before the rest is gone. */
	ASSERT_EQ(0, madvise(p + PG, PG, MADV_DONTNEED));
	EXPECT_TRUE(is_filled(p, LEN, 6));
	ASSERT_EQ(0, madvise(p, LEN / 2, MADV_DONTNEED));
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 6));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_read(p + LEN - 1));
}

/* Other advice that goes through the page tables. */
TEST_F(zc_vma, other_advice_in_flight)
{
	static const int advice[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_FREE, MADV_WILLNEED, MADV_REMOVE,
		MADV_HUGEPAGE, MADV_COLLAPSE, MADV_MERGEABLE, MADV_POPULATE_READ,
		MADV_POPULATE_WRITE, MADV_DODUMP, MADV_WIPEONFORK,
	};
	struct tzc_cmd *cmd;
	size_t i;
	char *p;

	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_TRUE(is_filled(p, LEN, 1));
	/* Refused or not: no harm. */
	for (i = 0; i < ARRAY_SIZE(advice); i++) {
		madvise(p, LEN, advice[i]);
		EXPECT_TRUE(is_filled(p, LEN, 1)) {
			TH_LOG("advice %d", advice[i]);
		}
	}
	mlock(p, LEN);
	EXPECT_TRUE(is_filled(p, LEN, 1));
	munlock(p, LEN);
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
	EXPECT_EQ(SIGBUS, probe_read(p));
}

/* A READ in a part that the handler made read-only, then writable again. */
TEST_F(zc_vma, read_in_read_only_part)
{
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	ASSERT_EQ(0, mprotect(p, LEN, PROT_READ));
	EXPECT_EQ(0, probe_read(p));
	EXPECT_EQ(SIGSEGV, probe_write(p, 'X'));
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
	ASSERT_EQ(0, mprotect(p, LEN, PROT_READ | PROT_WRITE));
	fill(p, LEN, 2);
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
	EXPECT_EQ(SIGBUS, probe_read(p));
}

/* PROT_NONE while the pages are in: completion must find them there, too. */
TEST_F(zc_vma, prot_none_at_completion)
{
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	fill(p, LEN, 2);
	ASSERT_EQ(0, mprotect(p, LEN, PROT_NONE));
	EXPECT_EQ(SIGSEGV, probe_read(p));
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	ASSERT_EQ(0, mprotect(p, LEN, PROT_READ | PROT_WRITE));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_write(p, 'X'));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
}

TZC_MAIN(TZC_NEED_MAPPED)
