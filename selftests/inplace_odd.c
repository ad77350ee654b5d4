// SPDX-License-Identifier: GPL-2.0
/*
 * inplace_odd: Blocks of any size and connections that break in any state lose
 * no block.
 */
#define FIX_OPTS	TZC_OPTS_IN_PLACE
#include "iscsi_test.h"

/*
 * Blocks of three pages, and somebody who has the second page of one and the
 * first of the next: both are dropped.
 */
TEST_F_TIMEOUT(iscsi, odd_blocks, 60)
{
	struct tzc_opts o = FIX_OPTS;
	struct zc *z = &self->z;
	struct drops d = { .z = z, .wanted = 2 * 3 };
	struct iovec page;
	struct tzc_cmd *cmd;
	char kept[PG];
	struct req req;
	int fds[2], n;

	o.area_mb = AREA_MB;
	o.time_out = 0;
	o.blk_pages = 3;
	up_again(_metadata, self, &o);
	ASSERT_EQ(0, pipe(fds));
	tzc_srv_stop(&z->srv);
	fill(z->tgt.mem + T_OFF, 6 * PG, 1);
	cmd = CATCH(&req, TZC_READ, NULL, 6 * PG, T_OFF);
	ASSERT_EQ(1, cmd->iov_cnt);
	page = (struct iovec){ .iov_len = PG };
	for (n = 1; n <= 3; n += 2) {
		page.iov_base = (char *)cmd->iov[0].iov_base + n * PG;
		ASSERT_EQ(PG, vmsplice(fds[1], &page, 1, 0));
	}
	zc_serve(z, cmd);
	EXPECT_EQ(0, finish(self->i, &req));
	scsi_free_scsi_task(req.task);
	ASSERT_EQ(0, tzc_srv_start(&z->srv));

	/* The next command acknowledges that one, and one more looks for room. */
	for (n = 0; n < 2; n++)
		ASSERT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, PG, T_OFF + MB));
	EXPECT_EQ(0, tzc_wait_for(all_dropped, &d, SOON));
	EXPECT_EQ(2 * 3, d.nr);
	ASSERT_EQ(0, use_half(self->i, self->buf));
	for (n = 1; n <= 3; n += 2) {
		ASSERT_EQ(PG, read(fds[0], kept, PG));
		EXPECT_EQ(0, memcmp(kept, z->tgt.mem + T_OFF + n * PG, PG)) {
			TH_LOG("page %d", n);
		}
	}
	close(fds[0]);
	close(fds[1]);
}

TEST_F_TIMEOUT(iscsi, reset_while_data_out_is_arriving, 200)
{
	struct zc *z = &self->z;

	reset_data_out(_metadata, self);
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

TZC_MAIN(TZC_NEED_ISCSI | TZC_NEED_IN_PLACE)
