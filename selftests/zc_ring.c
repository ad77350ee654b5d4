// SPDX-License-Identifier: GPL-2.0
/*
 * zc_ring: What the handler writes into the ring never decides which memory
 * the kernel maps.
 */
#include "zc_test.h"

#define LEN	(16 * PG)

FIXTURE(zc_ring) {
	struct zc z;
	char *buf;
	struct zc_io io;
};

FIXTURE_SETUP(zc_ring)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, LEN, 1);
}

FIXTURE_TEARDOWN(zc_ring)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* Everything but the header and the answer. */
static void scribble(struct tcmu_cmd_entry *ent)
{
	uint32_t len = tcmu_hdr_get_len(ent->hdr.len_op);

	ent->hdr.kflags ^= 0xff;
	memset((char *)ent + sizeof(ent->hdr), 0xa5, len - sizeof(ent->hdr));
}

TEST_F(zc_ring, write_entry_scribbled)
{
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD(&self->io, TZC_WRITE, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	tzc_scsi(&self->z.tgt, cmd);
	scribble(cmd->ent);
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF, LEN, 1));
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
	EXPECT_EQ(SIGBUS, probe_read(p));
}

TEST_F(zc_ring, read_entry_scribbled)
{
	struct tzc_cmd *cmd;
	char *p;

	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	p = cmd->iov[0].iov_base;
	scribble(cmd->ent);
	fill(p, LEN, 2);
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
	EXPECT_EQ(SIGBUS, probe_read(p));
	EXPECT_EQ(SIGBUS, probe_write(p, 'X'));
	EXPECT_TRUE(is_filled(self->buf, LEN, 2));
}

/* Claims about another command's memory. */
TEST_F(zc_ring, iovec_points_elsewhere)
{
	struct tzc_cmd *cmd, *other;
	struct zc_io io2;
	char *buf2;

	buf2 = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, buf2);
	memset(buf2, 'z', LEN);
	cmd = HOLD(&self->io, TZC_READ, self->buf, LEN, T_OFF);
	other = HOLD(&io2, TZC_READ, buf2, LEN, T_OFF + MB);
	fill(cmd->iov[0].iov_base, LEN, 4);
	fill(other->iov[0].iov_base, LEN, 5);
	/* Each other's iovec, then no flag at all, as if it was copied. */
	cmd->ent->req.iov[0] = (struct iovec){
		.iov_base = (void *)zc_map_off(&self->z, other->iov[0].iov_base),
		.iov_len = 64 * MB,
	};
	cmd->ent->req.iov_cnt = 1000;
	cmd->ent->hdr.kflags = 0;
	other->ent->hdr.kflags = 0;
	zc_done(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 4));
	/* The other is in flight: its mapping stays. */
	EXPECT_TRUE(is_filled(other->iov[0].iov_base, LEN, 5));
	zc_done(&self->z, other);
	EXPECT_EQ(LEN, zc_io_wait(&io2));
	EXPECT_TRUE(is_filled(buf2, LEN, 5));
}

/* A copied command that says it was mapped. */
TEST_F(zc_ring, copied_claims_mapped)
{
	struct tzc_cmd *cmd;

	ASSERT_EQ(0, tzc_attr_set(&self->z.dev, "zero_copy_min_bytes",
				  "1048576"));
	self->io = (struct zc_io){ .fd = self->z.fd, .dir = TZC_READ,
				   .buf = self->buf, .len = LEN, .off = T_OFF };
	ASSERT_EQ(0, zc_io_start(&self->io));
	cmd = zc_wait(&self->z);
	ASSERT_NE(NULL, cmd);
	ASSERT_FALSE(tzc_is_mapped(cmd));
	cmd->ent->hdr.kflags = TCMU_KFLAG_ZERO_COPY;
	fill(self->z.tgt.mem + T_OFF, LEN, 6);
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->buf, LEN, 6));
}

TZC_MAIN(TZC_NEED_MAPPED)
