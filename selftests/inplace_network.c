// SPDX-License-Identifier: GPL-2.0
/*
 * inplace_network: Pages that the network still has are not used for other
 * data.
 */
#define FIX_OPTS	TZC_OPTS_IN_PLACE
#include "iscsi_test.h"

static bool has_run(const char *p, size_t len, char c, size_t run)
{
	size_t i, n = 0;

	for (i = 0; i < len; i++) {
		n = p[i] == c ? n + 1 : 0;
		if (n == run)
			return true;
	}
	return false;
}

/*
 * The target closes a connection, as another one takes over its session. Data
 * in the send queue still goes to the initiator, which accepts it: it must be
 * what was read, and not what the blocks are used for afterwards.
 */
TEST_F_TIMEOUT(iscsi, send_queue_outlives_the_command, 120)
{
	struct zc *z = &self->z;
	struct drops d = { .z = z, .wanted = 1 };
	struct iscsi_context *i, *again;
	static char in[4 * MB];
	size_t got = 0;
	struct req req;
	ssize_t ret;
	int fd;

	memset(z->tgt.mem + T_OFF, 0xa5, MB);
	ASSERT_EQ(0, tzc_write_file(RMEM, "4096 16384 16384"));
	i = session_up(IQN ":b", 2);
	ASSERT_NE(NULL, i);
	fd = dup(iscsi_get_fd(i));
	zc_count(z);
	ASSERT_EQ(0, start(i, &req, TZC_READ, NULL, MB, T_OFF));
	ASSERT_EQ(0, tzc_wait_for(data_in_queue, &fd, SOON));

	again = session_up(IQN ":b", 2);
	ASSERT_NE(NULL, again);
	/* While the network has its grace period, and after it. */
	ASSERT_EQ(0, use_half(again, self->buf));
	EXPECT_EQ(0, tzc_wait_for(all_dropped, &d, SOON)) {
		TH_LOG("the connection was gone before its data");
	}
	ASSERT_EQ(0, use_half(again, self->buf));

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	while (got < sizeof(in) &&
	       (ret = recv(fd, in + got, sizeof(in) - got, 0)) > 0)
		got += ret;
	EXPECT_LT(16384, got);
	EXPECT_TRUE(has_run(in, got, (char)0xa5, 4096));
	EXPECT_FALSE(has_run(in, got, 0x5a, 64));
	close(fd);
	iscsi_destroy_context(i);
	EXPECT_EQ(0, wait_all_free(again, z));
	session_down(again);
}

TEST_F_TIMEOUT(iscsi, reset_while_data_in_is_sent, 200)
{
	struct zc *z = &self->z;

	reset_data_in(_metadata, self);
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

TZC_MAIN(TZC_NEED_ISCSI | TZC_NEED_IN_PLACE)
