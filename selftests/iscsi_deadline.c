// SPDX-License-Identifier: GPL-2.0
/* iscsi_deadline: A command that is tried again keeps its deadline. */
#define FIX_OPTS	TZC_OPTS_STOCK
#include "iscsi_test.h"

/* A retry whenever some other command ends doesn't extend its deadline. */
TEST_F_TIMEOUT(iscsi, waits_no_longer_than_it_may, 120)
{
	enum { SMALL = 64 * KB, NR = HALF / SMALL };
	struct zc *z = &self->z;
	struct tzc_cmd *held[NR];
	struct req req[NR], big;
	int n, ret;

	ASSERT_EQ(0, tzc_attr_set(&z->dev, "qfull_time_out", "1"));
	tzc_srv_stop(&z->srv);
	for (n = 0; n < NR; n++)
		held[n] = CATCH(&req[n], TZC_READ, NULL, SMALL, T_OFF);
	/* Not before the last of them. */
	ASSERT_EQ(0, start(self->i, &big, TZC_READ, NULL,
			   AREA_MB * MB - SMALL / 2, T_OFF));
	for (n = 0; n < NR - 1; n++) {
		ret = service_ms(self->i, POLLIN | POLLOUT, is_done, &big, 100);
		if (!ret)
			break;
		ASSERT_EQ(-ETIMEDOUT, ret);
		zc_serve(z, held[n]);
	}
	EXPECT_TRUE(big.done);
	EXPECT_EQ(SCSI_STATUS_TASK_SET_FULL, big.status);
	for (; n < NR; n++)
		zc_serve(z, held[n]);
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, service(self->i, POLLIN | POLLOUT, is_done, &big));
	for (n = 0; n < NR; n++) {
		EXPECT_EQ(0, finish(self->i, &req[n]));
		scsi_free_scsi_task(req[n].task);
	}
	scsi_free_scsi_task(big.task);
}

TZC_MAIN(TZC_NEED_ISCSI)
