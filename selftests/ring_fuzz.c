// SPDX-License-Identifier: GPL-2.0
/*
 * ring_fuzz: Whatever a handler writes into the ring and the mailbox, commands
 * end, their data stays, and reset_ring brings the device back.
 *
 * It prints a seed. TCMU_FUZZ_SEED=n repeats what was written, though not when;
 * TCMU_FUZZ_ROUNDS=n says how often.
 */
#include "zc_test.h"

#define MAX_IO	4
#define LEN	(16 * PG)

FIXTURE(ring_fuzz) {
	struct zc z;
	uint64_t state;		/* of the random numbers */
	struct tcmu_mailbox mb;	/* as it was */
	struct zc_io io[MAX_IO];
	struct tzc_cmd *cmd[MAX_IO];
	char *buf[MAX_IO];
	int nr;			/* of these */
};

MAPPED_AND_COPIED(ring_fuzz);

FIXTURE_SETUP(ring_fuzz)
{
	int n;

	VARIANT_UP(&self->z);
	tzc_srv_stop(&self->z.srv);
	self->mb = *self->z.srv.ring.mb;
	for (n = 0; n < MAX_IO; n++) {
		self->buf[n] = mem_get(MEM_ANON, LEN);
		ASSERT_NE(NULL, self->buf[n]);
	}
}

FIXTURE_TEARDOWN(ring_fuzz)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* xorshift64 */
static uint64_t rnd(FIXTURE_DATA(ring_fuzz) *self)
{
	self->state ^= self->state << 13;
	self->state ^= self->state >> 7;
	self->state ^= self->state << 17;
	return self->state;
}

static uint64_t below(FIXTURE_DATA(ring_fuzz) *self, uint64_t n)
{
	return rnd(self) % n;
}

/* A number that is at some edge, more often than not */
static uint32_t odd_number(FIXTURE_DATA(ring_fuzz) *self)
{
	uint32_t size = self->mb.cmdr_size, next = self->z.srv.ring.next;
	const uint32_t edges[] = {
		0, 1, 7, 8, 64, sizeof(struct tcmu_cmd_entry), size - 64,
		size - 8, size, size + 8, size * 2, next, next - 8, next + 8,
		next + 64, 0x7fffffff, 0x80000000, 0xfffffff8, 0xffffffff,
	};

	if (!below(self, 4))
		return rnd(self);
	return edges[below(self, ARRAY_SIZE(edges))];
}

static void scribble(FIXTURE_DATA(ring_fuzz) *self)
{
	struct tzc_ring *r = &self->z.srv.ring;
	volatile struct tcmu_mailbox *mb = r->mb;
	volatile struct tcmu_cmd_entry *ent = self->cmd[below(self, self->nr)]->ent;
	uint32_t val = odd_number(self);
	/* With others the initiator tries again, or resets the device. */
	const uint8_t status[] = { 0, 0x04, 0x18 };

	switch (below(self, 12)) {
	case 0:
		mb->cmd_tail = val;
		break;
	case 1:
		mb->cmd_head = val;
		break;
	case 2:
		mb->cmdr_off = val;
		mb->cmdr_size = odd_number(self);
		break;
	case 3:
		mb->version = val;
		mb->flags = rnd(self);
		break;
	case 4:
		ent->hdr.len_op = val;
		break;
	case 5:
		ent->hdr.cmd_id = below(self, 2) ? val :
			self->cmd[below(self, self->nr)]->id + below(self, 2);
		break;
	case 6:
		ent->hdr.kflags = rnd(self);
		/* This one is a CHECK CONDITION without sense: a reset, too. */
		ent->hdr.uflags = rnd(self) & ~TCMU_UFLAG_UNKNOWN_OP;
		break;
	case 7:
		ent->rsp.scsi_status = status[below(self, ARRAY_SIZE(status))];
		ent->rsp.read_len = val;
		break;
	case 8:
		ent->req.iov[0].iov_base = (void *)(uintptr_t)rnd(self);
		ent->req.iov[0].iov_len = rnd(self);
		ent->req.cdb_off = rnd(self);
		break;
	case 9:
		*(volatile uint64_t *)(r->map + self->mb.cmdr_off +
				       below(self, self->mb.cmdr_size / 8) * 8) = rnd(self);
		break;
	case 10:
		/* What a handler does that is right: all of them are done. */
		mb->cmd_tail = r->next;
		break;
	case 11:
		tzc_notify(r);
		break;
	}
}

static void round_of(struct __test_metadata *_metadata,
		     FIXTURE_DATA(ring_fuzz) *self)
{
	struct zc *z = &self->z;
	struct tcmu_mailbox *mb = z->srv.ring.mb;
	int n;

	self->nr = 1 + below(self, MAX_IO);
	for (n = 0; n < self->nr; n++) {
		fill(self->buf[n], LEN, n);
		self->io[n] = (struct zc_io){
			.fd = z->fd, .sg = true, .buf = self->buf[n],
			.dir = below(self, 2) ? TZC_READ : TZC_WRITE,
			.len = (1 + below(self, 16)) * PG, .off = T_OFF + n * LEN,
		};
		ASSERT_EQ(0, zc_io_start(&self->io[n]));
		self->cmd[n] = zc_wait(z);
		ASSERT_NE(NULL, self->cmd[n]);
	}
	/* Where the status will be, there is a part of the request. */
	for (n = 0; n < self->nr; n++)
		memset(&self->cmd[n]->ent->rsp, 0, sizeof(self->cmd[n]->ent->rsp));

	for (n = 1 + below(self, 12); n; n--)
		scribble(self);
	tzc_notify(&z->srv.ring);

	/* With 1, the initiator would try again. */
	ASSERT_EQ(0, tzc_action(&z->dev, "reset_ring", 2));
	/* The rest of the mailbox is the handler's to put right. */
	mb->version = self->mb.version;
	mb->flags = self->mb.flags;
	mb->cmdr_off = self->mb.cmdr_off;
	mb->cmdr_size = self->mb.cmdr_size;
	tzc_ring_resync(&z->srv.ring);

	for (n = 0; n < self->nr; n++) {
		EXPECT_NE(-ETIMEDOUT, zc_io_wait(&self->io[n]));
		if (self->io[n].dir == TZC_WRITE)
			EXPECT_TRUE(is_filled(self->buf[n], LEN, n));
		free(self->cmd[n]);
	}
}

static uint64_t number(const char *name, uint64_t def)
{
	const char *s = getenv(name);

	return s ? strtoull(s, NULL, 0) : def;
}

TEST_F_TIMEOUT(ring_fuzz, anything_anywhere, 300)
{
	/* A debug kernel takes its time. */
	bool slow = !access("/sys/kernel/debug/kmemleak", F_OK);
	uint64_t seed = number("TCMU_FUZZ_SEED", tzc_now_ms() ^ getpid());
	uint64_t rounds = number("TCMU_FUZZ_ROUNDS", slow ? 50 : 300);
	struct zc *z = &self->z;
	uint64_t i;

	printf("# TCMU_FUZZ_SEED=%llu TCMU_FUZZ_ROUNDS=%llu\n",
	       (unsigned long long)seed, (unsigned long long)rounds);
	/* It must not be 0. */
	self->state = seed * 2 + 1;
	for (i = 0; i < rounds; i++) {
		round_of(_metadata, self);
		if (i % 10)
			continue;
		ASSERT_EQ(0, tzc_srv_start(&z->srv));
		fill(self->buf[0], LEN, i);
		ASSERT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf[0], LEN, T_OFF));
		ASSERT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, i));
		memset(self->buf[0], 0, LEN);
		ASSERT_EQ(LEN, do_rw(z->fd, TZC_READ, self->buf[0], LEN, T_OFF));
		ASSERT_TRUE(is_filled(self->buf[0], LEN, i));
		tzc_srv_stop(&z->srv);
	}
}

TZC_MAIN(0)
