// SPDX-License-Identifier: GPL-2.0
/* iscsi_cdb: A CDB that is longer than what was sent doesn't get to the handler. */
#define FIX_OPTS	TZC_OPTS_STOCK
#include "iscsi_test.h"

/* 16 bytes that say that they are 260: the others would be kernel memory. */
TEST_F(iscsi, longer_than_sent)
{
	unsigned char cdb[16] = { 0x7f, [7] = 252, [9] = 0x7e };
	struct zc *z = &self->z;
	struct tcmu_mailbox *mb = z->srv.ring.mb;
	struct req req = { };

	tzc_srv_stop(&z->srv);
	req.task = scsi_create_task(sizeof(cdb), cdb, SCSI_XFER_NONE, 0);
	ASSERT_NE(NULL, req.task);
	ASSERT_EQ(0, iscsi_scsi_command_async(self->i, 0, req.task, req_done,
					      NULL, &req));
	EXPECT_EQ(0, service(self->i, POLLIN | POLLOUT, is_done, &req));
	EXPECT_EQ(SCSI_STATUS_CHECK_CONDITION, req.status);
	EXPECT_EQ(mb->cmd_tail, mb->cmd_head);
	if (req.done)
		scsi_free_scsi_task(req.task);

	/* Nothing else has suffered. */
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, xfer(self->i, TZC_READ, self->buf, MB, T_OFF));
}

TZC_MAIN(TZC_NEED_ISCSI)
