// SPDX-License-Identifier: GPL-2.0
/*
 * zc_gup: get_user_pages() refuses a command's mapped pages, and nothing else
 * of the map.
 */

/*
 * The limit that comes with mapping: no get_user_pages() on a command's
 * pages, so no O_DIRECT and no vmsplice from there. Buffered I/O works, and
 * the ordinary data area keeps everything.
 */
#include "zc_test.h"
#include <linux/loop.h>

#define LEN	(16 * PG)

FIXTURE(zc_gup) {
	struct zc z;
	char *buf;
	struct zc_io io;
	int loop, file;
	char path[32];
};

/* A disk to do O_DIRECT to: tmpfs accepts the flag, but copies. */
static int make_loop(FIXTURE_DATA(zc_gup) *self)
{
	struct loop_config lc = { };
	int ctl, nr;

	self->file = memfd_create("loop", 0);
	if (self->file < 0 || ftruncate(self->file, MB))
		return -1;
	ctl = open("/dev/loop-control", O_RDWR);
	if (ctl < 0)
		return -2;
	nr = ioctl(ctl, LOOP_CTL_GET_FREE);
	close(ctl);
	if (nr < 0)
		return -3;
	snprintf(self->path, sizeof(self->path), "/dev/loop%d", nr);
	self->loop = open(self->path, O_RDWR | O_DIRECT);
	if (self->loop < 0)
		return -4;
	lc.fd = self->file;
	lc.info.lo_flags = LO_FLAGS_AUTOCLEAR;
	return ioctl(self->loop, LOOP_CONFIGURE, &lc) ? -5 : 0;
}

FIXTURE_SETUP(zc_gup)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	self->loop = -1;
	ASSERT_EQ(0, make_loop(self));
	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, LEN, 1);
}

FIXTURE_TEARDOWN(zc_gup)
{
	EXPECT_EQ(0, zc_down(&self->z));
	if (self->loop >= 0)
		close(self->loop);
	close(self->file);
}

static int vmsplice_errno(void *p, size_t len)
{
	struct iovec iov = { .iov_base = p, .iov_len = len };
	int fd[2], ret;

	if (pipe(fd))
		return -1;
	ret = vmsplice(fd[1], &iov, 1, 0) == (ssize_t)len ? 0 : errno;
	close(fd[0]);
	close(fd[1]);
	return ret;
}

static int direct_errno(FIXTURE_DATA(zc_gup) *self, bool to_disk, char *p)
{
	ssize_t ret = to_disk ? pwrite(self->loop, p, LEN, 0) :
				pread(self->loop, p, LEN, 0);

	return ret == (ssize_t)LEN ? 0 : ret < 0 ? errno : -1;
}

TEST_F(zc_gup, write_command)
{
	struct tzc_cmd *cmd;
	char *p, c;
	int mem;

	mem = open("/proc/self/mem", O_RDONLY);
	ASSERT_LE(0, mem);
	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(EEXIST, direct_errno(self, true, p));
	EXPECT_EQ(0, probe_read(p));
	EXPECT_EQ(EEXIST, direct_errno(self, true, p));
	EXPECT_EQ(EFAULT, direct_errno(self, false, p));
	EXPECT_EQ(EEXIST, vmsplice_errno(p, LEN));
	EXPECT_EQ(-1, pread(mem, &c, 1, (off_t)p));
	EXPECT_EQ(EIO, errno);
	EXPECT_TRUE(is_filled(p, LEN, 1));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
	close(mem);
}

TEST_F(zc_gup, read_command)
{
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(EEXIST, direct_errno(self, false, p));
	fill(p, LEN, 2);
	EXPECT_EQ(EEXIST, direct_errno(self, false, p));
	EXPECT_EQ(EEXIST, direct_errno(self, true, p));
	EXPECT_EQ(EEXIST, vmsplice_errno(p, LEN));
	EXPECT_TRUE(is_filled(p, LEN, 2));
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
}

TEST_F(zc_gup, buffered_io)
{
	struct tzc_cmd *cmd;
	char *p, *tmp;

	tmp = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, tmp);
	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	/* As first touch. */
	EXPECT_EQ(LEN, pwrite(self->file, p, LEN, 0));
	EXPECT_EQ(LEN, pread(self->file, tmp, LEN, 0));
	EXPECT_TRUE(is_filled(tmp, LEN, 1));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));

	fill(tmp, LEN, 3);
	EXPECT_EQ(LEN, pwrite(self->file, tmp, LEN, 0));
	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	EXPECT_EQ(LEN, pread(self->file, cmd->iov[0].iov_base, LEN, 0));
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 3));
}

/* The same mapping, a copied command: all of it works. */
TEST_F(zc_gup, data_area_keeps_it)
{
	struct tzc_cmd *cmd;
	char *p, c;
	int mem;

	mem = open("/proc/self/mem", O_RDONLY);
	ASSERT_LE(0, mem);
	ASSERT_EQ(0, tzc_attr_set(&self->z.dev, "zero_copy_min_bytes",
				  "1048576"));
	self->io = (struct zc_io){ .fd = self->z.fd, .dir = TZC_WRITE,
				   .buf = self->buf, .len = LEN, .off = T_OFF };
	ASSERT_EQ(0, zc_io_start(&self->io));
	cmd = zc_wait(&self->z);
	ASSERT_NE(NULL, cmd);
	ASSERT_FALSE(tzc_is_mapped(cmd));
	ASSERT_EQ(LEN, cmd->iov[0].iov_len);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, direct_errno(self, true, p));
	EXPECT_EQ(0, vmsplice_errno(p, LEN));
	EXPECT_EQ(1, pread(mem, &c, 1, (off_t)p));
	memset(p, 0, LEN);
	EXPECT_EQ(0, direct_errno(self, false, p));
	EXPECT_TRUE(is_filled(p, LEN, 1));
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF, LEN, 1));
	close(mem);
}

TZC_MAIN(TZC_NEED_MAPPED)
