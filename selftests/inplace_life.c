// SPDX-License-Identifier: GPL-2.0
/*
 * inplace_life: Blocks in place stay whole until the handler, the fabric and
 * the initiator are done with them.
 */
#define FIX_OPTS	TZC_OPTS_IN_PLACE
#include "iscsi_test.h"
#include <linux/io_uring.h>
#include <sys/syscall.h>

/* Use all other blocks, so that a block that is free in error is overwritten. */
static int use_blocks(struct iscsi_context *i, struct zc *z)
{
	static char junk[256 * KB];
	int n, ret = 0;

	memset(junk, 0x5a, sizeof(junk));
	if (tzc_srv_start(&z->srv))
		return -EIO;
	for (n = 0; n < 16 && !ret; n++)
		ret = xfer(i, TZC_WRITE, junk, sizeof(junk), 32 * MB);
	tzc_srv_stop(&z->srv);
	return ret;
}

TEST_F_TIMEOUT(iscsi, keep_buf, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	struct req req;
	uint16_t id;
	char *p;

	fill(self->buf, MB, 1);
	tzc_srv_stop(&z->srv);
	cmd = CATCH(&req, TZC_WRITE, self->buf, MB, T_OFF);
	p = cmd->iov[0].iov_base;
	id = cmd->id;
	cmd->uflags = TCMU_UFLAG_KEEP_BUF;
	zc_serve(z, cmd);
	EXPECT_EQ(0, finish(self->i, &req));
	scsi_free_scsi_task(req.task);

	/* Unlike pages that were mapped, it is still there. */
	EXPECT_EQ(0, use_blocks(self->i, z));
	EXPECT_TRUE(is_filled(p, MB, 1));
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

/* Nobody frees it, not even when the device is removed. */
TEST_F_TIMEOUT(iscsi, keep_buf_then_removed, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	struct req req;

	fill(self->buf, MB, 1);
	tzc_srv_stop(&z->srv);
	cmd = CATCH(&req, TZC_WRITE, self->buf, MB, T_OFF);
	cmd->uflags = TCMU_UFLAG_KEEP_BUF;
	zc_serve(z, cmd);
	EXPECT_EQ(0, finish(self->i, &req));
	scsi_free_scsi_task(req.task);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
}

/* Register a buffer, which pins its pages for long: a descriptor, or -errno. */
static int pin(void *p, size_t len)
{
	const struct iovec iov = { .iov_base = p, .iov_len = len };
	struct io_uring_params params = { };
	int fd;

	fd = syscall(__NR_io_uring_setup, 1, &params);
	if (fd < 0)
		return -errno;
	if (syscall(__NR_io_uring_register, fd, IORING_REGISTER_BUFFERS, &iov, 1)) {
		close(fd);
		return -errno;
	}
	return fd;
}

/*
 * Pages that the handler has pinned aren't dropped: its registration would be
 * of pages that nobody looks at. They aren't used again, either.
 */
TEST_F_TIMEOUT(iscsi, pinned, 60)
{
	const size_t len = 256 * KB;
	struct zc *z = &self->z;
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	struct req req;
	uint64_t began;
	char *p;
	int fd;

	tzc_srv_stop(&z->srv);
	cmd = CATCH(&req, TZC_READ, self->buf, len, T_OFF);
	ASSERT_EQ(1, cmd->iov_cnt);
	p = cmd->iov[0].iov_base;
	fill(z->tgt.mem + T_OFF, len, 1);
	fd = pin(p, len);
	if (fd == -ENOSYS) {
		zc_serve(z, cmd);
		finish(self->i, &req);
		SKIP(return, "no io_uring in this kernel");
	}
	ASSERT_LE(0, fd);
	zc_serve(z, cmd);
	EXPECT_EQ(0, finish(self->i, &req));
	scsi_free_scsi_task(req.task);
	EXPECT_TRUE(is_filled(self->buf, len, 1));

	/* Several times as long as the network may have a page */
	for (began = tzc_now_ms(); tzc_now_ms() - began < 500;)
		ASSERT_EQ(0, use_blocks(self->i, z));
	EXPECT_TRUE(is_filled(p, len, 1));
	c = zc_count(z);
	EXPECT_EQ(0, c.inplace_dropped);

	close(fd);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

static bool is_expired(void *arg)
{
	struct feed *f = arg;

	return ((struct req *)f->cmd)->done;
}

TEST_F_TIMEOUT(iscsi, time_out, 90)
{
	struct tzc_opts o = FIX_OPTS;
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	struct feed f;
	struct req req;
	char *p;

	fill(self->buf, MB, 1);
	/* It can't be set while there is a LUN. */
	o.area_mb = AREA_MB;
	o.time_out = 3;
	up_again(_metadata, self, &o);

	tzc_srv_stop(&z->srv);
	cmd = CATCH(&req, TZC_WRITE, self->buf, MB, T_OFF);
	p = cmd->iov[0].iov_base;
	f.cmd = (void *)&req;
	EXPECT_EQ(0, service(self->i, POLLIN | POLLOUT, is_expired, &f));
	EXPECT_NE(SCSI_STATUS_GOOD, req.status);
	scsi_free_scsi_task(req.task);

	/* The handler is still at it, and no signal stops it. */
	EXPECT_TRUE(is_filled(p, MB, 1));
	EXPECT_EQ(0, probe_write(p, 'X'));
	memset(p, 0x11, MB);
	zc_done(z, cmd);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

TEST_F_TIMEOUT(iscsi, reset_ring_in_flight, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *w, *r;
	struct req req[2];

	fill(self->buf, MB, 1);
	tzc_srv_stop(&z->srv);
	w = CATCH(&req[0], TZC_WRITE, self->buf, MB, T_OFF);
	r = CATCH(&req[1], TZC_READ, NULL, 512 * KB, T_OFF);
	ASSERT_EQ(0, tzc_action(&z->dev, "reset_ring", 1));
	EXPECT_EQ(SCSI_STATUS_BUSY, finish(self->i, &req[0]));
	EXPECT_EQ(SCSI_STATUS_BUSY, finish(self->i, &req[1]));
	scsi_free_scsi_task(req[0].task);
	scsi_free_scsi_task(req[1].task);
	free(w);
	free(r);
	tzc_ring_resync(&z->srv.ring);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

TEST_F_TIMEOUT(iscsi, session_lost_in_flight, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *w, *r;
	struct req req[2];
	char *p;

	fill(self->buf, MB, 1);
	tzc_srv_stop(&z->srv);
	w = CATCH(&req[0], TZC_WRITE, self->buf, MB, T_OFF);
	r = CATCH(&req[1], TZC_READ, NULL, 512 * KB, T_OFF);
	p = w->iov[0].iov_base;
	session_reset(self->i);
	self->i = NULL;
	/* The target waits for its commands. */
	EXPECT_TRUE(is_filled(p, MB, 1));
	memset(r->iov[0].iov_base, 0x22, 512 * KB);
	zc_serve(z, w);
	zc_done(z, r);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	self->i = session_up(IQN ":a", 1);
	ASSERT_NE(NULL, self->i);
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

static void *abort_thread(void *arg)
{
	struct tzc_cmd *cmd;
	struct zc *z = arg;

	/* The target answers when the command has ended. */
	cmd = zc_wait(z);
	if (cmd)
		zc_serve(z, cmd);
	return NULL;
}

TEST_F_TIMEOUT(iscsi, aborted, 60)
{
	struct zc *z = &self->z;
	struct req req;
	pthread_t thr;

	tzc_srv_stop(&z->srv);
	ASSERT_EQ(0, start(self->i, &req, TZC_READ, NULL, MB, T_OFF));
	ASSERT_EQ(0, pthread_create(&thr, NULL, abort_thread, z));
	iscsi_task_mgmt_abort_task_sync(self->i, req.task);
	pthread_join(thr, NULL);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

/* The fabric has the memory of a device that is gone. */
TEST_F_TIMEOUT(iscsi, device_removed_while_data_in_is_sent, 90)
{
	struct zc *z = &self->z;
	struct iscsi_context *i;
	struct req req;

	i = UNREAD(&req, MB);
	session_reset(self->i);
	self->i = NULL;

	iscsi_target_lun_down();
	EXPECT_EQ(-1, access(LUN, F_OK));
	EXPECT_EQ(0, zc_down(z));
	EXPECT_EQ(-1, access(z->dev.dir, F_OK));
	session_reset(i);
	iscsi_target_down();
}

/* The last acknowledged blocks may not be back yet. */
static bool half_is_free(void *arg)
{
	FIXTURE_DATA(iscsi) *self = arg;

	zc_count(&self->z);
	return !xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF) &&
	       zc_count(&self->z).inplace_cmds == 1;
}

TEST_F_TIMEOUT(iscsi, shrinker, 60)
{
	const char *param = "/sys/module/target_core_user/parameters/global_max_data_area_mb";
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	char limit[16] = "";
	struct req req;
	char *p;
	int n;

	/* Blocks above those of the command that stays. */
	for (n = 0; n < 2; n++)
		ASSERT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, 2 * MB, T_OFF));
	ASSERT_EQ(0, wait_all_free(self->i, z));
	ASSERT_EQ(0, tzc_wait_for(half_is_free, self, SOON));
	ASSERT_LT(0, tzc_read_file(param, limit, sizeof(limit)));
	fill(self->buf, MB, 1);
	tzc_srv_stop(&z->srv);
	cmd = CATCH(&req, TZC_WRITE, self->buf, MB, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, tzc_write_file(param, "1"));
	for (n = 0; n < 100; n++) {
		tzc_write_file(param, "1");
		if (probe_read(p + 1536 * KB) == SIGBUS)
			break;
		usleep(50000);
	}
	EXPECT_NE(100, n);
	EXPECT_TRUE(is_filled(p, MB, 1));
	tzc_write_file(param, "%s", limit);
	zc_serve(z, cmd);
	EXPECT_EQ(0, finish(self->i, &req));
	scsi_free_scsi_task(req.task);
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, MB, 1));
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

TZC_MAIN(TZC_NEED_ISCSI | TZC_NEED_IN_PLACE)
