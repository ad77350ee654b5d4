// SPDX-License-Identifier: GPL-2.0
/*
 * zc_io: What was written is stored and what is stored is read, for any size
 * and memory.
 */
#include "zc_test.h"
#include <linux/fs.h>

FIXTURE(zc_io) {
	struct zc z;
};

FIXTURE_VARIANT(zc_io) {
	enum mem_kind kind;
	bool stock;
	const char *target;
};

FIXTURE_VARIANT_ADD(zc_io, anon) { .kind = MEM_ANON, .target = "ram" };
FIXTURE_VARIANT_ADD(zc_io, thp) { .kind = MEM_THP, .target = "ram" };
FIXTURE_VARIANT_ADD(zc_io, hugetlb) { .kind = MEM_HUGETLB, .target = "ram" };
FIXTURE_VARIANT_ADD(zc_io, shmem) { .kind = MEM_SHMEM, .target = "ram" };
/* The handler passes the iovecs to read(2) and write(2). */
FIXTURE_VARIANT_ADD(zc_io, to_file) {
	.kind = MEM_ANON, .target = "file:/tmp/zc_io.img",
};
/* A handler that knows no zero-copy flag finds everything where it looks. */
FIXTURE_VARIANT_ADD(zc_io, stock_handler) {
	.kind = MEM_ANON, .stock = true, .target = "ram",
};

FIXTURE_SETUP(zc_io)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	o.size = 16 * MB;
	unlink("/tmp/zc_io.img");
	ASSERT_EQ(0, zc_up_workers(&self->z, &o, variant->target, 0));
	self->z.srv.ring.stock = variant->stock;
}

FIXTURE_TEARDOWN(zc_io)
{
	EXPECT_EQ(0, zc_down(&self->z));
	unlink("/tmp/zc_io.img");
}

/* Does the target hold the pattern? Read by a way that isn't tested. */
static bool stored(struct zc *z, off_t off, size_t len, int seed)
{
	char *p;
	bool ok;

	if (z->tgt.mem)
		return is_filled(z->tgt.mem + off, len, seed);
	p = malloc(len);
	ok = pread(z->tgt.fd, p, len, off) == (ssize_t)len &&
	     is_filled(p, len, seed);
	free(p);
	return ok;
}

static void one_size(struct __test_metadata *_metadata,
		     FIXTURE_DATA(zc_io) *self, char *buf, size_t len,
		     size_t shift)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	char *p = buf + shift;
	int old = _metadata->exit_code;

	zc_count(z);
	fill(p, len, len + shift);
	ASSERT_EQ(len, do_rw(z->fd, TZC_WRITE, p, len, T_OFF));
	EXPECT_TRUE(stored(z, T_OFF, len, len + shift));
	memset(p, 0xee, len);
	ASSERT_EQ(len, do_rw(z->fd, TZC_READ, p, len, T_OFF));
	EXPECT_TRUE(is_filled(p, len, len + shift));
	EXPECT_TRUE(is_all(buf, shift, 0x55));
	EXPECT_TRUE(is_all(p + len, PG, 0x55));

	c = zc_count(z);
	EXPECT_EQ(2 * len, c.mapped_bytes + c.copied_bytes);
	EXPECT_EQ(0, c.page + c.space);
	if (len < PG) {
		EXPECT_EQ(0, c.mapped_cmds);
		EXPECT_EQ(2, c.small);
	} else if (!shift && !(len % PG)) {
		EXPECT_EQ(2 * len, c.mapped_bytes);
		EXPECT_EQ(0, c.copied_cmds);
		EXPECT_EQ(2 * len / PG, c.pages);
	} else {
		/*
		 * Of a split request only the first and last part are copied,
		 * and the last may be tiny.
		 */
		EXPECT_LE(2, c.layout);
		EXPECT_EQ(c.copied_cmds, c.layout + c.small);
		if (len <= 64 * PG)
			EXPECT_EQ(0, c.mapped_cmds);
	}
	if (_metadata->exit_code != old)
		TH_LOG("size %zu, %zu into the page", len, shift);
	memset(p, 0x55, len);
}

TEST_F_TIMEOUT(zc_io, direct, 60)
{
	const size_t sizes[] = {
		512, 1536, PG, 3 * PG, 15 * PG + 512, 16 * PG, 64 * PG, MB,
		4 * MB,
	};
	size_t i, size = 4 * MB + 2 * PG;
	char *buf;

	buf = mem_get(variant->kind, size);
	ASSERT_NE(NULL, buf);
	memset(buf, 0x55, size);
	for (i = 0; i < ARRAY_SIZE(sizes) && sizes[i] <= 4 * MB; i++) {
		one_size(_metadata, self, buf, sizes[i], 0);
		one_size(_metadata, self, buf, sizes[i], 512);
	}
}

/* --- memory that isn't the initiator's own ------------------------- */

ZC_FIXTURE(zc_mem, TZC_OPTS_DEFAULT)

/*
 * Drop the disk's page cache. Right after writeback a folio may still be
 * referenced, and then it is not dropped.
 */
static bool cache_dropped(void *arg)
{
	size_t i, len = 2 * MB;
	unsigned char in_core[512];
	bool dropped = true;
	int fd = *(int *)arg;
	void *p;

	if (ioctl(fd, BLKFLSBUF, 0))
		return false;
	p = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, T_OFF);
	if (p == MAP_FAILED || mincore(p, len, in_core))
		return false;
	for (i = 0; i < len / PG; i++)
		if (in_core[i] & 1)
			dropped = false;
	munmap(p, len);
	return dropped;
}

/* The block device's page cache: no O_DIRECT. */
TEST_F(zc_mem, page_cache)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	size_t len = 2 * MB;
	char *buf;
	int fd;

	buf = mem_get(MEM_ANON, len);
	ASSERT_NE(NULL, buf);
	fill(buf, len, 7);
	fd = zc_open_disk(z, O_RDWR);
	ASSERT_LE(0, fd);
	ASSERT_EQ(len, pwrite(fd, buf, len, T_OFF));
	ASSERT_EQ(0, fsync(fd));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, len, 7));
	c = zc_count(z);
	EXPECT_EQ(len, c.mapped_bytes);
	EXPECT_EQ(0, c.copied_bytes);

	ASSERT_EQ(0, tzc_wait_for(cache_dropped, &fd, SOON));
	memset(buf, 0, len);
	ASSERT_EQ(len, pread(fd, buf, len, T_OFF));
	EXPECT_TRUE(is_filled(buf, len, 7));
	/* Read-ahead may have read more. */
	c = zc_count(z);
	EXPECT_LE(len, c.mapped_bytes);
	EXPECT_EQ(0, c.copied_bytes);
	close(fd);
}

/* A mapping of the page cache, written by stores and msync(). */
TEST_F(zc_mem, page_cache_mmapped)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	size_t len = 256 * KB;
	char *p;
	int fd;

	fd = zc_open_disk(z, O_RDWR);
	ASSERT_LE(0, fd);
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, fd, T_OFF);
	ASSERT_NE(MAP_FAILED, p);
	fill(p, len, 8);
	ASSERT_EQ(0, msync(p, len, MS_SYNC));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, len, 8));
	c = zc_count(z);
	EXPECT_LE(len, c.mapped_bytes);
	EXPECT_EQ(0, c.page);
	munmap(p, len);
	close(fd);
}

/* Never written: every page is the zero page, which nobody may share. */
TEST_F(zc_mem, zero_page_is_copied)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	char *buf;

	buf = mem_get(MEM_ANON, 64 * KB);
	ASSERT_NE(NULL, buf);
	memset(z->tgt.mem + T_OFF, 0xaa, 64 * KB);
	ASSERT_EQ(64 * KB, do_rw(z->fd, TZC_WRITE, buf, 64 * KB, T_OFF));
	EXPECT_TRUE(is_all(z->tgt.mem + T_OFF, 64 * KB, 0));
	c = zc_count(z);
	EXPECT_EQ(0, c.mapped_cmds);
	EXPECT_EQ(1, c.page);
	EXPECT_EQ(64 * KB, c.copied_bytes);
	EXPECT_EQ(64 * KB, c.missed_bytes);
}

/* The huge zero page as well, and then one page of it gets written. */
TEST_F(zc_mem, huge_zero_page_is_not_altered)
{
	struct zc *z = &self->z;
	char *buf;

	buf = mem_get(MEM_THP, HUGE);
	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, probe_read(buf));
	memset(z->tgt.mem + T_OFF, 0xaa, MB);
	ASSERT_EQ(MB, do_rw(z->fd, TZC_WRITE, buf, MB, T_OFF));
	EXPECT_TRUE(is_all(z->tgt.mem + T_OFF, MB, 0));
	fill(z->tgt.mem + T_OFF, MB, 3);
	ASSERT_EQ(MB, do_rw(z->fd, TZC_READ, buf, MB, T_OFF));
	EXPECT_TRUE(is_filled(buf, MB, 3));
	EXPECT_TRUE(is_all(buf + MB, MB, 0));
}

/* One page of many can't be mapped: the whole buffer is copied. */
TEST_F(zc_mem, one_zero_page_among_others)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	char *buf;

	buf = mem_get(MEM_ANON, 64 * KB);
	ASSERT_NE(NULL, buf);
	fill(buf, 32 * KB, 9);
	ASSERT_EQ(64 * KB, do_rw(z->fd, TZC_WRITE, buf, 64 * KB, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, 32 * KB, 9));
	EXPECT_TRUE(is_all(z->tgt.mem + T_OFF + 32 * KB, 32 * KB, 0));
	c = zc_count(z);
	EXPECT_EQ(0, c.mapped_cmds);
	EXPECT_EQ(1, c.page);
}

/* The kernel's own commands: no READs, and small buffers from its slabs. */
FIXTURE(zc_slab) {
	struct zc z;
};

FIXTURE_SETUP(zc_slab)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	o.min_bytes = 0;
	ASSERT_EQ(0, zc_up(&self->z, &o));
}

FIXTURE_TEARDOWN(zc_slab)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

TEST_F(zc_slab, scan_commands_are_copied)
{
	struct tzc_counters c;

	/* INQUIRY, READ CAPACITY, MODE SENSE: since the device was made. */
	ASSERT_EQ(0, tzc_counters(&self->z.dev, &c));
	EXPECT_EQ(0, c.small);
	EXPECT_LE(4, c.cdb);
	EXPECT_EQ(c.copied_cmds, c.cdb + c.layout + c.page);
}

TZC_MAIN(TZC_NEED_MAPPED)
