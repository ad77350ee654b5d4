// SPDX-License-Identifier: GPL-2.0
/*
 * iscsi_reset: An iSCSI connection that breaks with commands in flight does no
 * harm.
 */
#define FIX_OPTS	TZC_OPTS_STOCK
#include "iscsi_test.h"

TEST_F_TIMEOUT(iscsi, reset_while_data_out_is_arriving, 200)
{
	reset_data_out(_metadata, self);
	EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF));
}

TEST_F_TIMEOUT(iscsi, reset_while_data_in_is_sent, 200)
{
	reset_data_in(_metadata, self);
	EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF));
}

TZC_MAIN(TZC_NEED_ISCSI)
