// SPDX-License-Identifier: GPL-2.0
/*
 * ring_hostile: Impossible completions mark the device broken, and reset_ring
 * brings it back.
 */
#include "zc_test.h"

#define LEN	(16 * PG)

FIXTURE(ring_hostile) {
	struct zc z;
	char *buf;
	struct zc_io io;
};

MAPPED_AND_COPIED(ring_hostile);

FIXTURE_SETUP(ring_hostile)
{
	VARIANT_UP(&self->z);
	tzc_srv_stop(&self->z.srv);
	self->buf = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, LEN, 1);
}

FIXTURE_TEARDOWN(ring_hostile)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

static struct tzc_cmd *hold(FIXTURE_DATA(ring_hostile) *self, struct zc_io *io)
{
	*io = (struct zc_io){ .fd = self->z.fd, .dir = TZC_WRITE, .sg = true,
			      .buf = self->buf, .len = LEN, .off = T_OFF };
	if (zc_io_start(io))
		return NULL;
	return zc_wait(&self->z);
}

/*
 * After a hostile tail: the write() that delivered it has returned, the
 * device refuses commands at once, a reset makes it whole.
 */
static void check_broken(struct __test_metadata *_metadata,
			 FIXTURE_DATA(ring_hostile) *self, bool answered)
{
	struct zc *z = &self->z;
	uint64_t start = tzc_now_ms();
	char *tmp = mem_get(MEM_ANON, PG);

	ASSERT_NE(NULL, tmp);
	memset(tmp, 0, PG);
	EXPECT_EQ(-EIO, sg_rw(z->fd, TZC_READ, tmp, PG, T_OFF));
	EXPECT_GT(5000, tzc_now_ms() - start);
	/* An entry that was in order has been completed, no other. */
	if (answered) {
		EXPECT_EQ(LEN, zc_io_wait(&self->io));
	} else {
		EXPECT_EQ(-ETIMEDOUT, zc_io_wait_ms(&self->io, 0));
	}

	ASSERT_EQ(0, tzc_action(&z->dev, "reset_ring", 2));
	if (!answered) {
		EXPECT_EQ(-EIO, zc_io_wait(&self->io));
	}
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
	EXPECT_EQ(0, z->srv.ring.mb->cmd_head);
	EXPECT_EQ(0, z->srv.ring.mb->cmd_tail);
	tzc_ring_resync(&z->srv.ring);
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf, LEN, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 1));
	memset(self->buf, 0, LEN);
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_READ, self->buf, LEN, T_OFF));
	EXPECT_TRUE(is_filled(self->buf, LEN, 1));
}

/* Hold one command, spoil its entry, say that it is done. */
#define SPOIL(...)	SPOIL_OR_NOT(false, __VA_ARGS__)
/* Answer one command as it should be, and spoil the tail. */
#define SPOIL_TAIL(...)							\
	SPOIL_OR_NOT(true, memset(&ent->rsp, 0, sizeof(ent->rsp)); __VA_ARGS__)

#define SPOIL_OR_NOT(answered, ...)					\
	do {								\
		struct tzc_ring *r = &self->z.srv.ring;			\
		struct tzc_cmd *cmd = hold(self, &self->io);		\
		struct tcmu_cmd_entry *ent;				\
		uint32_t tail = r->next;				\
									\
		ASSERT_NE(NULL, cmd);					\
		ent = cmd->ent;						\
		(void)ent;						\
		__VA_ARGS__;						\
		__atomic_store_n(&r->mb->cmd_tail, tail,		\
				 __ATOMIC_RELEASE);			\
		tzc_notify(r);						\
		check_broken(_metadata, self, answered);		\
	} while (0)

TEST_F(ring_hostile, len_zero)
{
	SPOIL(ent->hdr.len_op = TCMU_OP_CMD);
}

TEST_F(ring_hostile, pad_of_len_zero)
{
	SPOIL(ent->hdr.len_op = TCMU_OP_PAD);
}

TEST_F(ring_hostile, len_too_short)
{
	SPOIL(ent->hdr.len_op = TCMU_OP_CMD | 8);
}

TEST_F(ring_hostile, len_beyond_head)
{
	SPOIL(ent->hdr.len_op += 4096);
}

TEST_F(ring_hostile, len_beyond_ring)
{
	SPOIL(ent->hdr.len_op = TCMU_OP_CMD | 0xfffffff8);
}

TEST_F(ring_hostile, pad_beyond_head)
{
	SPOIL(ent->hdr.len_op = TCMU_OP_PAD | 65536);
}

TEST_F(ring_hostile, unknown_op)
{
	SPOIL(ent->hdr.len_op |= 7);
}

TEST_F(ring_hostile, unknown_cmd_id)
{
	SPOIL(ent->hdr.cmd_id = 0x7fff);
}

TEST_F(ring_hostile, cmd_id_zero)
{
	SPOIL(ent->hdr.cmd_id = 0);
}

TEST_F(ring_hostile, tail_beyond_ring)
{
	SPOIL_TAIL(tail = 0xfffffff8);
}

TEST_F(ring_hostile, tail_beyond_head)
{
	SPOIL_TAIL(tail += 512);
}

TEST_F(ring_hostile, tail_unaligned)
{
	SPOIL_TAIL(tail -= 3);
}

/* The same command twice: its id is free after the first. */
TEST_F(ring_hostile, completed_twice)
{
	struct tzc_ring *r = &self->z.srv.ring;
	struct tzc_cmd *a, *b;
	struct zc_io io;
	uint16_t id;

	a = hold(self, &io);
	ASSERT_NE(NULL, a);
	b = hold(self, &self->io);
	ASSERT_NE(NULL, b);
	id = a->id;
	zc_serve(&self->z, a);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	b->ent->hdr.cmd_id = id;
	__atomic_store_n(&r->mb->cmd_tail, r->next, __ATOMIC_RELEASE);
	tzc_notify(r);
	check_broken(_metadata, self, false);
}

/* Its id is still there after KEEP_BUF, its se_cmd isn't. */
TEST_F(ring_hostile, completed_after_keep_buf)
{
	struct tzc_ring *r = &self->z.srv.ring;
	struct tzc_cmd *a, *b;
	struct zc_io io;
	uint16_t id;

	a = hold(self, &io);
	ASSERT_NE(NULL, a);
	b = hold(self, &self->io);
	ASSERT_NE(NULL, b);
	id = a->id;
	tzc_scsi(&self->z.tgt, a);
	zc_keep(&self->z, a);
	EXPECT_EQ(LEN, zc_io_wait(&io));
	b->ent->hdr.cmd_id = id;
	__atomic_store_n(&r->mb->cmd_tail, r->next, __ATOMIC_RELEASE);
	tzc_notify(r);
	/* The buffer is kept all the same. */
	EXPECT_EQ(0, tzc_action(&self->z.dev, "free_kept_buf", id));
	check_broken(_metadata, self, false);
}

static bool head_is_back(void *arg)
{
	struct tcmu_mailbox *mb = arg;

	return __atomic_load_n(&mb->cmd_head, __ATOMIC_ACQUIRE) !=
	       mb->cmdr_size - 4;
}

/* The kernel has its own head. */
TEST_F(ring_hostile, head_scribbled)
{
	struct tcmu_mailbox *mb = self->z.srv.ring.mb;
	struct tzc_cmd *cmd;
	int i;

	cmd = hold(self, &self->io);
	ASSERT_NE(NULL, cmd);
	mb->cmd_head = 0xdeadbeef;
	zc_serve(&self->z, cmd);
	EXPECT_EQ(LEN, zc_io_wait(&self->io));
	EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF, LEN, 1));

	/* The next command puts the right value back. */
	for (i = 0; i < 3; i++) {
		mb->cmd_head = self->z.srv.ring.next;
		cmd = hold(self, &self->io);
		ASSERT_NE(NULL, cmd);
		/* In place of this one, were the head the handler's. */
		mb->cmd_head = mb->cmdr_size - 4;
		zc_serve(&self->z, cmd);
		EXPECT_EQ(LEN, zc_io_wait(&self->io));
		fill(self->buf, LEN, 2 + i);
		self->io = (struct zc_io){ .fd = self->z.fd, .dir = TZC_WRITE,
					   .sg = true, .buf = self->buf,
					   .len = LEN, .off = T_OFF };
		ASSERT_EQ(0, zc_io_start(&self->io));
		ASSERT_EQ(0, tzc_wait_for(head_is_back, mb, SOON));
		cmd = zc_wait(&self->z);
		ASSERT_NE(NULL, cmd);
		zc_serve(&self->z, cmd);
		EXPECT_EQ(LEN, zc_io_wait(&self->io));
		EXPECT_TRUE(is_filled(self->z.tgt.mem + T_OFF, LEN, 2 + i));
	}
}

struct liar {
	struct tcmu_cmd_entry *ent;
	bool stop;
};

static void *lie(void *arg)
{
	struct liar *l = arg;

	while (!__atomic_load_n(&l->stop, __ATOMIC_RELAXED)) {
		l->ent->rsp.read_len = PG;
		asm volatile("" : : : "memory");
		l->ent->rsp.read_len = 0x7fffffff;
		asm volatile("" : : : "memory");
	}
	return NULL;
}

/* A read_len that grows while the kernel looks: it looks once. */
TEST_F_TIMEOUT(ring_hostile, read_len_changes, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	struct liar l = { };
	pthread_t thr;
	ssize_t ret;
	int i;

	for (i = 0; i < 200; i++) {
		/* Not the whole of a block is asked for. */
		memset(self->buf, 0x11, LEN);
		cmd = CATCH_IO(&self->io, true, TZC_READ, self->buf,
			       LEN - 512, T_OFF);
		memset(cmd->iov[0].iov_base, 0x22, PG);
		cmd->uflags = TCMU_UFLAG_READ_LEN;
		l = (struct liar){ .ent = cmd->ent };
		tzc_complete(&z->srv.ring, cmd);
		ASSERT_EQ(0, pthread_create(&thr, NULL, lie, &l));
		tzc_notify(&z->srv.ring);
		ret = zc_io_wait(&self->io);
		__atomic_store_n(&l.stop, true, __ATOMIC_RELAXED);
		pthread_join(thr, NULL);
		ASSERT_NE(-ETIMEDOUT, ret);
		EXPECT_TRUE(is_all(self->buf + LEN - 512, 512, 0x11));
	}
}

/* --- at the end of the ring ---------------------------------------- */

FIXTURE(ring_end) {
	struct zc z;
	char *buf;
	struct zc_io io;
};

FIXTURE_SETUP(ring_end)
{
	struct tzc_opts o = TZC_OPTS_STOCK;

	/* The smallest there is: it has to be filled. */
	o.ring_mb = 1;
	ASSERT_EQ(0, zc_up(&self->z, &o));
	self->buf = mem_get(MEM_ANON, LEN);
	ASSERT_NE(NULL, self->buf);
	fill(self->buf, LEN, 1);
}

FIXTURE_TEARDOWN(ring_end)
{
	EXPECT_EQ(0, zc_down(&self->z));
}

/* A completion that claims to go on where the ring begins. */
TEST_F_TIMEOUT(ring_end, len_across_the_end, 120)
{
	struct zc *z = &self->z;
	struct tzc_ring *r = &z->srv.ring;
	uint32_t size = r->mb->cmdr_size, left, len;
	struct tzc_cmd *last, *first;
	struct zc_io io;

	/* All commands are as long as the first one, or shorter. */
	len = tcmu_hdr_get_len(tzc_entry(r, 0)->hdr.len_op);
	while (size - r->mb->cmd_tail >= 2 * len)
		ASSERT_EQ(512, do_rw(z->fd, TZC_READ, self->buf, 512, T_OFF));
	tzc_srv_stop(&z->srv);
	fill(self->buf, LEN, 1);

	last = CATCH_IO(&self->io, true, TZC_WRITE, self->buf, LEN, T_OFF);
	first = CATCH_IO(&io, true, TZC_WRITE, self->buf, LEN, T_OFF);
	left = size - ((char *)last->ent - (char *)tzc_entry(r, 0));
	ASSERT_GT(2 * len, left);
	ASSERT_EQ(tzc_entry(r, 0), first->ent);
	/* The head is behind that, so only the end of the ring forbids it. */
	last->ent->hdr.len_op = TCMU_OP_CMD | (left + 64);
	memset(&last->ent->rsp, 0, sizeof(last->ent->rsp));
	__atomic_store_n(&r->mb->cmd_tail, 64, __ATOMIC_RELEASE);
	tzc_notify(r);
	free(last);
	free(first);

	EXPECT_EQ(-ETIMEDOUT, zc_io_wait_ms(&self->io, 500));
	EXPECT_EQ(-ETIMEDOUT, zc_io_wait_ms(&io, 0));
	ASSERT_EQ(0, tzc_action(&z->dev, "reset_ring", 2));
	EXPECT_EQ(-EIO, zc_io_wait(&self->io));
	EXPECT_EQ(-EIO, zc_io_wait(&io));
	tzc_ring_resync(r);
	ASSERT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(LEN, do_rw(z->fd, TZC_WRITE, self->buf, LEN, T_OFF));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, LEN, 1));
}

TZC_MAIN(0)
