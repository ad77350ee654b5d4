// SPDX-License-Identifier: GPL-2.0
/* zc_network: Data of a network fabric that is not in place is mapped, and cleared first. */
#define FIX_OPTS	TZC_OPTS_DEFAULT
#include "iscsi_test.h"

TEST_F(iscsi, switched_off)
{
	struct zc *z = &self->z;
	struct tzc_counters c;

	ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_in_place", "0"));
	fill(self->buf, MB, 1);
	EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, MB, 1));
	c = zc_count(z);
	EXPECT_EQ(0, c.inplace_cmds + c.inplace_missed);
	EXPECT_EQ(1, c.mapped_cmds);
	/* Memory of the kernel that an initiator could get to see. */
	EXPECT_EQ(0, c.cleared_pages);
	EXPECT_EQ(0, xfer(self->i, TZC_READ, self->buf, MB, T_OFF));
	c = zc_count(z);
	EXPECT_EQ(MB / PG, c.cleared_pages);
	EXPECT_EQ(-EINVAL, tzc_attr_set(&z->dev, "zero_copy_in_place", "2"));
	ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_in_place", "1"));
	EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF));
	EXPECT_EQ(1, zc_count(z).inplace_cmds);
}

/* Neither in place nor mapped: it is copied. */
TEST_F(iscsi, never_mapped)
{
	struct zc *z = &self->z;
	struct tzc_counters c;

	ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_in_place", "0"));
	ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_mapped", "0"));
	zc_count(z);
	fill(self->buf, MB, 1);
	EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, MB, 1));
	memset(self->buf, 0, MB);
	EXPECT_EQ(0, xfer(self->i, TZC_READ, self->buf, MB, T_OFF));
	EXPECT_TRUE(is_filled(self->buf, MB, 1));
	c = zc_count(z);
	EXPECT_EQ(2, c.copied_cmds);
	EXPECT_EQ(0, c.mapped_cmds + c.inplace_cmds);
	/* Data in place has its own switch. */
	ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_in_place", "1"));
	EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF));
	EXPECT_EQ(1, zc_count(z).inplace_cmds);
}

TZC_MAIN(TZC_NEED_ISCSI | TZC_NEED_IN_PLACE | TZC_NEED_MAPPED)
