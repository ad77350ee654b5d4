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

TZC_MAIN(TZC_NEED_ISCSI)
