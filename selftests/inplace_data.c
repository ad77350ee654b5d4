// SPDX-License-Identifier: GPL-2.0
/*
 * inplace_data: Data that a network fabric brings or fetches is in the data
 * area at once, not copied.
 */
#define FIX_OPTS	TZC_OPTS_IN_PLACE
#include "iscsi_test.h"

TEST_F_TIMEOUT(iscsi, nothing_is_copied, 60)
{
	const size_t len[] = {
		512, PG, PG + 512, 5 * PG + 512, 64 * KB, 64 * KB + 512, MB,
	};
	struct zc *z = &self->z;
	struct tzc_counters c;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(len); i++) {
		fill(self->buf, len[i], i);
		EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, len[i], T_OFF));
		EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, len[i], i)) {
			TH_LOG("%zu bytes", len[i]);
		}
		fill(z->tgt.mem + T_OFF, len[i], i + 100);
		EXPECT_EQ(0, xfer(self->i, TZC_READ, self->buf, len[i], T_OFF));
		EXPECT_TRUE(is_filled(self->buf, len[i], i + 100)) {
			TH_LOG("%zu bytes", len[i]);
		}
	}
	c = zc_count(z);
	EXPECT_EQ(2 * ARRAY_SIZE(len), c.inplace_cmds);
	EXPECT_EQ(0, c.inplace_missed);
	EXPECT_EQ(0, c.mapped_cmds + c.copied_cmds);
	EXPECT_EQ(0, c.faults + c.ahead + c.pages + c.unmaps);
}

/*
 * The handler keeps the pages that it has faulted in once, although the
 * network has references to them a little longer than the commands last.
 */
TEST_F_TIMEOUT(iscsi, handler_keeps_its_mapping, 240)
{
	struct zc *z = &self->z;
	struct rusage before, after;
	const int rounds = 40;
	int n;

	for (n = 0; n < 2 * rounds; n++) {
		if (n == rounds)
			getrusage(RUSAGE_SELF, &before);
		ASSERT_EQ(0, xfer(self->i, TZC_READ, self->buf, 64 * KB, T_OFF));
	}
	getrusage(RUSAGE_SELF, &after);
	EXPECT_GT(rounds * 64 * KB / PG / 4, after.ru_minflt - before.ru_minflt);

	zc_count(z);
	for (n = 0; n < 2 * rounds; n++)
		ASSERT_EQ(0, xfer(self->i, TZC_READ, self->buf, MB, T_OFF));
	/* Of 20480. A machine that is stopped for a while may lose some. */
	EXPECT_GT(2 * rounds, zc_count(z).inplace_dropped);
}

/* The ring entry is that of a copied command, and in one piece. */
TEST_F(iscsi, one_iovec_in_the_data_area)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	struct req req;
	char *p;

	fill(self->buf, MB, 1);
	tzc_srv_stop(&z->srv);
	cmd = CATCH(&req, TZC_WRITE, self->buf, MB, T_OFF);
	EXPECT_EQ(0, cmd->kflags);
	ASSERT_EQ(1, cmd->iov_cnt);
	p = cmd->iov[0].iov_base;
	EXPECT_LE(zc_map_off(z, p) + MB, z->srv.ring.size);
	EXPECT_TRUE(is_filled(p, MB, 1));
	/* It is the handler's own memory. */
	EXPECT_EQ(0, probe_write(p, 'X'));
	zc_serve(z, cmd);
	EXPECT_EQ(0, finish(self->i, &req));
	scsi_free_scsi_task(req.task);
}

/* Data of other WRITEs is in place, even if its length isn't the CDB's. */
TEST_F(iscsi, other_writes)
{
	static const struct {
		unsigned char op;
		int len;
		bool in_place;
	} cdbs[] = {
		{ 0x2e, 10, true },	/* WRITE AND VERIFY */
		{ 0xae, 12, true },
		{ 0x8e, 16, true },
		{ 0x9c, 16, true },	/* WRITE ATOMIC */
		{ 0x89, 16, true },	/* COMPARE AND WRITE */
		{ 0x93, 16, true },	/* WRITE SAME */
		{ 0x41, 10, true },
		{ 0x15, 6, false },	/* MODE SELECT */
		{ 0x42, 10, false },	/* UNMAP */
	};
	struct zc *z = &self->z;
	struct iscsi_data data = { .size = 64 * KB, .data = (void *)self->buf };
	struct tzc_counters c;
	struct req req;
	size_t i;

	fill(self->buf, 64 * KB, 1);
	for (i = 0; i < ARRAY_SIZE(cdbs); i++) {
		unsigned char cdb[16] = { cdbs[i].op };

		/* Two sectors, from T_OFF on: less than what is sent. */
		if (cdbs[i].len == 16)
			cdb[8] = T_OFF / TZC_SECTOR >> 8, cdb[13] = 2;
		else if (cdbs[i].len == 12)
			cdb[4] = T_OFF / TZC_SECTOR >> 8, cdb[9] = 2;
		else
			cdb[4] = T_OFF / TZC_SECTOR >> 8, cdb[8] = 2;
		req = (struct req){ };
		req.task = scsi_create_task(cdbs[i].len, cdb, SCSI_XFER_WRITE,
					    data.size);
		ASSERT_NE(NULL, req.task);
		ASSERT_EQ(0, iscsi_scsi_command_async(self->i, 0, req.task,
						      req_done, &data, &req));
		EXPECT_EQ(0, service(self->i, POLLIN | POLLOUT, is_done, &req));
		if (req.done)
			scsi_free_scsi_task(req.task);
		c = zc_count(z);
		EXPECT_EQ(cdbs[i].in_place, c.inplace_cmds) {
			TH_LOG("opcode %#x", cdbs[i].op);
		}
		EXPECT_EQ(!cdbs[i].in_place, c.copied_cmds);
	}
	/* The handler executes WRITE SAME. */
	EXPECT_EQ(0, memcmp(z->tgt.mem + T_OFF, self->buf, TZC_SECTOR));
	EXPECT_EQ(0, memcmp(z->tgt.mem + T_OFF + TZC_SECTOR, self->buf, TZC_SECTOR));
}

/* It can change at any time, and data in flight stays where it is. */
TEST_F(iscsi, switched_any_time)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	struct tzc_cmd *cmd;
	struct req req;
	int on;

	for (on = 0; on < 2; on++) {
		fill(self->buf, MB, on);
		tzc_srv_stop(&z->srv);
		cmd = CATCH(&req, TZC_WRITE, self->buf, MB, T_OFF);
		ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_in_place",
					  on ? "1" : "0"));
		zc_serve(z, cmd);
		EXPECT_EQ(0, finish(self->i, &req));
		scsi_free_scsi_task(req.task);
		EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, MB, on));
		ASSERT_EQ(0, tzc_srv_start(&z->srv));
		c = zc_count(z);
		EXPECT_EQ(!on, c.inplace_cmds);
		EXPECT_EQ(on, c.copied_cmds);
		EXPECT_EQ(0, xfer(self->i, TZC_READ, self->buf, MB, T_OFF));
		c = zc_count(z);
		EXPECT_EQ(on, c.inplace_cmds);
		EXPECT_EQ(!on, c.copied_cmds);
	}
	EXPECT_EQ(-EINVAL, tzc_attr_set(&z->dev, "zero_copy_in_place", "2"));
	EXPECT_EQ(-EINVAL, tzc_control(&z->dev, "zero_copy_in_place=2"));
}

/* The map, the mailbox and the entries are those of stock tcmu. */
TEST_F(iscsi, nothing_to_see_for_the_handler)
{
	struct zc *z = &self->z;
	struct tzc_counters c;

	EXPECT_EQ(TZC_RING_BYTES + AREA_MB * MB, z->dev.map_size);
	EXPECT_EQ(TCMU_MAILBOX_FLAG_CAP_OOOC | TCMU_MAILBOX_FLAG_CAP_READ_LEN |
		  TCMU_MAILBOX_FLAG_CAP_TMR | TCMU_MAILBOX_FLAG_CAP_KEEP_BUF,
		  z->srv.ring.mb->flags);
	/* Nor is anything mapped, where the data is this machine's own. */
	fill(self->buf, MB, 1);
	ASSERT_EQ(MB, do_rw(z->fd, TZC_WRITE, self->buf, MB, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, MB, 1));
	c = zc_count(z);
	EXPECT_EQ(MB, c.copied_bytes);
	EXPECT_EQ(0, c.mapped_cmds + c.pages);
}

TZC_MAIN(TZC_NEED_ISCSI | TZC_NEED_IN_PLACE)
