// SPDX-License-Identifier: GPL-2.0
/*
 * iscsi_reset: An iSCSI connection that breaks with commands in flight does no
 * harm.
 */
#define FIX_OPTS	TZC_OPTS_STOCK
#include "iscsi_test.h"

TEST_F_TIMEOUT(iscsi, reset_while_data_out_is_arriving, 200)
{
	struct iscsi_context *i;
	struct req req[2];
	int n;

	for (n = 0; n < nr_resets(); n++) {
		i = session_up(IQN ":b", 2);
		ASSERT_NE(NULL, i);
		ASSERT_EQ(0, start(i, &req[0], TZC_WRITE, self->buf, MB, T_OFF));
		/* Of this one, some data is sent. */
		ASSERT_EQ(0, start(i, &req[1], TZC_WRITE, self->buf, MB,
				   T_OFF + MB));
		if (n % 2)
			service(i, POLLIN, all_sent, i);
		session_reset(i);
	}
	EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF));
}

TEST_F_TIMEOUT(iscsi, reset_while_data_in_is_sent, 200)
{
	struct iscsi_context *i;
	struct req req[4];
	int n, k;

	/* What isn't read stays with the sender. */
	ASSERT_EQ(0, tzc_write_file(RMEM, "4096 16384 16384"));
	for (n = 0; n < nr_resets(); n++) {
		i = session_up(IQN ":b", 2);
		ASSERT_NE(NULL, i);
		for (k = 0; k < 4; k++)
			ASSERT_EQ(0, start(i, &req[k], TZC_READ, NULL, 256 * KB,
					   T_OFF + k * MB));
		session_reset(i);
	}
	EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF));
}

/*
 * Data that lie beyond the end of their command, and never come: the target
 * rejects the command. Wait for the reject, which is preceded by an R2T.
 */
static int get_rejected(struct iscsi_context *i, struct req *req)
{
	uint8_t bhs[48] = { 0x05, 0x80, [6] = 2, [40] = 0x10 };
	uint32_t itt = htonl(req->task->itt);
	struct pollfd pfd = { .fd = iscsi_get_fd(i), .events = POLLIN };
	uint64_t end = tzc_now_ms() + SOON;
	uint8_t in[3 * 48];
	size_t got = 0;
	ssize_t n;

	memcpy(bhs + 16, &itt, 4);
	memset(bhs + 20, 0xff, 4);
	if (write(pfd.fd, bhs, sizeof(bhs)) != sizeof(bhs))
		return -EIO;
	while (got < sizeof(in)) {
		if (tzc_now_ms() > end)
			return -ETIMEDOUT;
		if (poll(&pfd, 1, 10) <= 0)
			continue;
		n = read(pfd.fd, in + got, sizeof(in) - got);
		if (n <= 0)
			return -EIO;
		got += n;
	}
	return (in[48] & 0x3f) == 0x3f ? 0 : -EPROTO;
}

/* The core has no reference to a rejected command any more. */
TEST_F_TIMEOUT(iscsi, reset_after_a_reject, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *r;
	struct req req[2];

	tzc_srv_stop(&z->srv);
	r = CATCH(&req[0], TZC_READ, NULL, 512 * KB, T_OFF);
	ASSERT_EQ(0, start(self->i, &req[1], TZC_WRITE, self->buf, 64 * KB,
			   T_OFF + MB));
	ASSERT_EQ(0, get_rejected(self->i, &req[1]));
	session_reset(self->i);
	self->i = NULL;
	/* The target waits for the READ. Nothing shows that it has begun to. */
	sleep(1);
	zc_done(z, r);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	self->i = session_up(IQN ":a", 1);
	ASSERT_NE(NULL, self->i);
	EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF));
}

TZC_MAIN(TZC_NEED_ISCSI)
