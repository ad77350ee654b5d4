// SPDX-License-Identifier: GPL-2.0
/*
 * ring_cdb: Over tcm_loop, too, a CDB that is longer than what was sent doesn't
 * get to the handler.
 */
#include "zc_test.h"

FIXTURE(ring_cdb) {
	struct zc z;
};

FIXTURE_SETUP(ring_cdb)
{
	struct tzc_opts o = TZC_OPTS_STOCK;

	ASSERT_EQ(0, zc_up(&self->z, &o));
}

FIXTURE_TEARDOWN(ring_cdb)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* The bytes that were not sent would be kernel memory. */
TEST_F(ring_cdb, longer_than_sent)
{
	static const struct {
		int len, says;
	} cdbs[] = { { 16, 260 }, { 16, 20 }, { 24, 32 }, { 32, 36 } };
	struct zc *z = &self->z;
	struct tcmu_mailbox *mb = z->srv.ring.mb;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(cdbs); i++) {
		unsigned char cdb[32] = { 0x7f, [7] = cdbs[i].says - 8, [9] = 0x7e };
		uint32_t head = mb->cmd_head;

		EXPECT_EQ(-EIO, sg_cmd(z->fd, cdb, cdbs[i].len, TZC_READ, NULL,
				       0, 60000, NULL));
		EXPECT_EQ(head, mb->cmd_head) {
			TH_LOG("%d bytes that say %d", cdbs[i].len, cdbs[i].says);
		}
	}
}

/* A CDB that is as long as it says gets to the handler. */
TEST_F(ring_cdb, all_of_it_sent)
{
	unsigned char cdb[32] = { 0x7f, [7] = 32 - 8, [9] = 0x7e };
	struct zc *z = &self->z;
	struct tcmu_mailbox *mb = z->srv.ring.mb;
	uint32_t head = mb->cmd_head;

	/* The handler doesn't know this command. */
	EXPECT_EQ(-EIO, sg_cmd(z->fd, cdb, 32, TZC_READ, NULL, 0, 60000, NULL));
	EXPECT_NE(head, mb->cmd_head);
}

TZC_MAIN(0)
