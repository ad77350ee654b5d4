// SPDX-License-Identifier: GPL-2.0
/*
 * zc_cdb: Only READs and WRITEs whose data is what their CDB says are mapped.
 */
#include "zc_test.h"

#define LEN	(16 * PG)
#define SECTORS	(LEN / TZC_SECTOR)

FIXTURE(zc_cdb) {
	struct zc z;
	char *buf;
};

FIXTURE_SETUP(zc_cdb)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	ASSERT_EQ(0, zc_up(&self->z, &o));
	self->buf = mem_get(MEM_ANON, 2 * LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, 2 * LEN, 1);
}

FIXTURE_TEARDOWN(zc_cdb)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* A CDB of len bytes for nr sectors at T_OFF. */
static void make_cdb(unsigned char *cdb, size_t len, uint8_t op, uint32_t nr)
{
	uint32_t lba = T_OFF / TZC_SECTOR;
	unsigned char *l = cdb + 2, *n = cdb + 6;

	memset(cdb, 0, len);
	cdb[0] = op;
	switch (len) {
	case 6:
		cdb[1] = lba >> 16;
		cdb[2] = lba >> 8;
		cdb[3] = lba;
		cdb[4] = nr;
		return;
	case 10:
		n = cdb + 7;
		n[0] = nr >> 8;
		n[1] = nr;
		break;
	case 16:
		l = cdb + 6;
		n = cdb + 10;
		break;
	case 32:
		cdb[7] = 0x18;
		l = cdb + 16;
		n = cdb + 28;
		break;
	}
	l[0] = lba >> 24;
	l[1] = lba >> 16;
	l[2] = lba >> 8;
	l[3] = lba;
	if (len == 10)
		return;
	n[0] = nr >> 24;
	n[1] = nr >> 16;
	n[2] = nr >> 8;
	n[3] = nr;
}

/* What became of a command's data; how the command ends doesn't matter. */
static struct tzc_counters send(struct zc *z, unsigned char *cdb, size_t len,
				enum tzc_dir dir, void *buf, size_t bytes)
{
	zc_count(z);
	sg_cmd(z->fd, cdb, len, dir, buf, bytes, 60000, NULL);
	return zc_count(z);
}

static const struct {
	uint8_t op;
	size_t len;
	enum tzc_dir dir;
	uint16_t action;
} rw[] = {
	{ 0x28, 10, TZC_READ },
	{ 0xa8, 12, TZC_READ },
	{ 0x88, 16, TZC_READ },
	{ 0x7f, 32, TZC_READ, 0x0009 },
	{ 0x2a, 10, TZC_WRITE },
	{ 0xaa, 12, TZC_WRITE },
	{ 0x8a, 16, TZC_WRITE },
	{ 0x7f, 32, TZC_WRITE, 0x000b },
};

static void rw_cdb(unsigned char *cdb, size_t i, uint32_t nr)
{
	make_cdb(cdb, rw[i].len, rw[i].op, nr);
	if (rw[i].action)
		cdb[9] = rw[i].action;
}

TEST_F(zc_cdb, every_read_and_write_is_mapped)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	unsigned char cdb[32];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rw); i++) {
		rw_cdb(cdb, i, SECTORS);
		c = send(z, cdb, rw[i].len, rw[i].dir, self->buf, LEN);
		EXPECT_EQ(1, c.mapped_cmds) {
			TH_LOG("opcode %#x, %zu bytes", rw[i].op, rw[i].len);
		}
		EXPECT_EQ(0, c.cdb);
	}
}

/* A handler that fills the buffer of what looks like a READ must live. */
TEST_F(zc_cdb, wrong_direction_is_copied)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	unsigned char cdb[32];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(rw); i++) {
		rw_cdb(cdb, i, SECTORS);
		c = send(z, cdb, rw[i].len,
			 rw[i].dir == TZC_READ ? TZC_WRITE : TZC_READ,
			 self->buf, LEN);
		EXPECT_EQ(0, c.mapped_cmds) {
			TH_LOG("opcode %#x, %zu bytes", rw[i].op, rw[i].len);
		}
		EXPECT_EQ(1, c.cdb);
		EXPECT_EQ(LEN, c.missed_bytes);
	}
}

/* What a handler would leave as it was isn't shown to the initiator. */
TEST_F(zc_cdb, other_length_is_copied)
{
	const uint32_t nr[] = { 8, SECTORS - 1, SECTORS + 1 };
	struct zc *z = &self->z;
	struct tzc_counters c;
	unsigned char cdb[32];
	size_t i, k;

	for (i = 0; i < ARRAY_SIZE(rw); i++) {
		for (k = 0; k < ARRAY_SIZE(nr); k++) {
			rw_cdb(cdb, i, nr[k]);
			c = send(z, cdb, rw[i].len, rw[i].dir, self->buf, LEN);
			EXPECT_EQ(0, c.mapped_cmds) {
				TH_LOG("opcode %#x, %zu bytes", rw[i].op,
				       rw[i].len);
			}
			EXPECT_EQ(1, c.cdb);
		}
	}
}

TEST_F(zc_cdb, other_commands_are_copied)
{
	static const struct {
		uint8_t op;
		size_t len;
		enum tzc_dir dir;
	} other[] = {
		{ 0x08, 6, TZC_READ },	/* READ(6), a tape's is another */
		{ 0x0a, 6, TZC_WRITE },
		{ 0x12, 6, TZC_READ },	/* INQUIRY */
		{ 0x12, 6, TZC_WRITE },
		{ 0x5a, 10, TZC_READ },	/* MODE SENSE */
		{ 0x5a, 10, TZC_WRITE },
		{ 0x55, 10, TZC_WRITE },	/* MODE SELECT */
		{ 0x2e, 10, TZC_WRITE },	/* WRITE AND VERIFY */
		{ 0x89, 16, TZC_WRITE },	/* COMPARE AND WRITE */
		{ 0x93, 16, TZC_WRITE },	/* WRITE SAME */
		{ 0x42, 10, TZC_WRITE },	/* UNMAP */
		{ 0x83, 16, TZC_WRITE },	/* EXTENDED COPY */
	};
	struct zc *z = &self->z;
	struct tzc_counters c;
	unsigned char cdb[32];
	size_t i;

	for (i = 0; i < ARRAY_SIZE(other); i++) {
		make_cdb(cdb, other[i].len, other[i].op, SECTORS);
		c = send(z, cdb, other[i].len, other[i].dir, self->buf, LEN);
		EXPECT_EQ(0, c.mapped_cmds) {
			TH_LOG("opcode %#x", other[i].op);
		}
		EXPECT_EQ(1, c.cdb);
	}
	/* The handler lives. */
	fill(self->buf, LEN, 1);
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf, LEN, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 1));
}

/* With another length of CDB, its fields aren't where READ(32) has them. */
TEST_F(zc_cdb, short_variable_length_is_copied)
{
	struct zc *z = &self->z;
	struct tzc_counters c;
	unsigned char cdb[32];

	make_cdb(cdb, 32, 0x7f, SECTORS);
	cdb[9] = 0x09;
	cdb[7] = 0x10;
	c = send(z, cdb, 24, TZC_READ, self->buf, LEN);
	EXPECT_EQ(0, c.mapped_cmds);
	EXPECT_EQ(1, c.cdb);
}

TZC_MAIN(TZC_NEED_MAPPED)
