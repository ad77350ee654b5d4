// SPDX-License-Identifier: GPL-2.0
/*
 * Commands of a network fabric are in the data area from the beginning: an
 * iSCSI target on the loopback interface, and an initiator (libiscsi) that
 * does what others don't.
 */
#include "zc_test.h"
#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define IQN	"iqn.2026-01.org.example:zct"
#define PORTAL	"127.0.0.1:3265"
#define TARGET	"/sys/kernel/config/target/iscsi/" IQN
#define TPG	TARGET "/tpgt_1"
#define LUN	TPG "/lun/lun_0"
#define RMEM	"/proc/sys/net/ipv4/tcp_rmem"

/* The whole of what fabrics may have: half of the data area. */
#define AREA_MB	4
#define HALF	(AREA_MB * MB / 2)

static int make(const char *path)
{
	return mkdir(path, 0755) && errno != EEXIST ? -errno : 0;
}

static int target_up(struct zc *z)
{
	int ret = 0;

	ret = ret ?: make("/sys/kernel/config/target/iscsi");
	ret = ret ?: make(TARGET);
	ret = ret ?: make(TPG);
	ret = ret ?: tzc_write_file(TPG "/attrib/authentication", "0");
	ret = ret ?: tzc_write_file(TPG "/attrib/generate_node_acls", "1");
	ret = ret ?: tzc_write_file(TPG "/attrib/cache_dynamic_acls", "1");
	ret = ret ?: tzc_write_file(TPG "/attrib/demo_mode_write_protect", "0");
	ret = ret ?: make(TPG "/np/" PORTAL);
	ret = ret ?: make(LUN);
	if (!ret && symlink(z->dev.dir, LUN "/tzc"))
		ret = -errno;
	return ret ?: tzc_write_file(TPG "/enable", "1");
}

static void target_lun_down(void)
{
	unlink(LUN "/tzc");
	rmdir(LUN);
}

static void target_down(void)
{
	tzc_write_file(TPG "/enable", "0");
	target_lun_down();
	rmdir(TPG "/np/" PORTAL);
	rmdir(TPG);
	rmdir(TARGET);
}

/* --- the initiator ------------------------------------------------- */

/* One command; done is set by its callback. */
struct req {
	struct scsi_task *task;
	bool done;
	int status;
};

static void req_done(struct iscsi_context *i, int status, void *data, void *arg)
{
	struct req *req = arg;

	req->done = true;
	req->status = status;
}

static struct iscsi_context *session_up(const char *name, unsigned int isid)
{
	struct iscsi_context *i = iscsi_create_context(name);

	if (!i)
		return NULL;
	iscsi_set_isid_oui(i, 0x1405, isid);
	iscsi_set_targetname(i, IQN);
	iscsi_set_session_type(i, ISCSI_SESSION_NORMAL);
	iscsi_set_header_digest(i, ISCSI_HEADER_DIGEST_NONE);
	/* So that data is sent when it is asked for, that is, by us. */
	iscsi_set_immediate_data(i, ISCSI_IMMEDIATE_DATA_NO);
	iscsi_set_initial_r2t(i, ISCSI_INITIAL_R2T_YES);
	iscsi_set_noautoreconnect(i, 1);
	iscsi_set_timeout(i, 60);
	if (iscsi_full_connect_sync(i, PORTAL, 0)) {
		iscsi_destroy_context(i);
		return NULL;
	}
	return i;
}

static void session_reset(struct iscsi_context *i)
{
	struct linger l = { .l_onoff = 1 };

	setsockopt(iscsi_get_fd(i), SOL_SOCKET, SO_LINGER, &l, sizeof(l));
	iscsi_destroy_context(i);
}

static void session_down(struct iscsi_context *i)
{
	iscsi_logout_sync(i);
	iscsi_destroy_context(i);
}

/* Do what there is to do for these events, until cond() or for so long. */
static int service_ms(struct iscsi_context *i, short events,
		      bool (*cond)(void *), void *arg, int ms)
{
	uint64_t end = tzc_now_ms() + ms;

	while (!cond(arg)) {
		struct pollfd pfd = {
			.fd = iscsi_get_fd(i),
			.events = iscsi_which_events(i) & events,
		};

		if (tzc_now_ms() > end)
			return -ETIMEDOUT;
		poll(&pfd, 1, 10);
		if (iscsi_service(i, pfd.revents & events) < 0)
			return -EIO;
	}
	return 0;
}

static int service(struct iscsi_context *i, short events, bool (*cond)(void *),
		   void *arg)
{
	return service_ms(i, events, cond, arg, SOON);
}

static bool is_done(void *arg)
{
	return ((struct req *)arg)->done;
}

static bool all_sent(void *arg)
{
	return !(iscsi_which_events(arg) & POLLOUT);
}

/* Send a command, but none of the data that the target asks for. */
static int start(struct iscsi_context *i, struct req *req, enum tzc_dir dir,
		 void *buf, size_t len, off_t off)
{
	*req = (struct req){ };
	if (dir == TZC_WRITE)
		req->task = iscsi_write16_task(i, 0, off / TZC_SECTOR, buf, len,
					       TZC_SECTOR, 0, 0, 0, 0, 0,
					       req_done, req);
	else
		req->task = iscsi_read16_task(i, 0, off / TZC_SECTOR, len,
					      TZC_SECTOR, 0, 0, 0, 0, 0,
					      req_done, req);
	if (!req->task ||
	    (dir == TZC_READ && buf &&
	     scsi_task_add_data_in_buffer(req->task, len, buf)))
		return -ENOMEM;
	return service(i, POLLOUT, all_sent, i);
}

/* The SCSI status, or a negative errno. */
static int finish(struct iscsi_context *i, struct req *req)
{
	int ret = service(i, POLLIN | POLLOUT, is_done, req);

	return ret ?: req->status;
}

static int xfer(struct iscsi_context *i, enum tzc_dir dir, void *buf,
		size_t len, off_t off)
{
	struct req req;
	int ret = start(i, &req, dir, buf, len, off);

	ret = ret ?: finish(i, &req);
	if (req.task && req.done)
		scsi_free_scsi_task(req.task);
	return ret;
}

/* --- fixture ------------------------------------------------------- */

FIXTURE(zc_inplace) {
	struct zc z;
	struct iscsi_context *i;
	char *buf, rmem[64];
};

FIXTURE_SETUP(zc_inplace)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;

	NEED_ZERO_COPY();
	o.area_mb = AREA_MB;
	o.time_out = 0;
	signal(SIGPIPE, SIG_IGN);
	target_down();
	tzc_read_file(RMEM, self->rmem, sizeof(self->rmem));
	ASSERT_EQ(0, zc_up(&self->z, &o));
	ASSERT_EQ(0, target_up(&self->z)) {
		TH_LOG("no iSCSI target: CONFIG_ISCSI_TARGET");
	}
	self->i = session_up(IQN ":a", 1);
	ASSERT_NE(NULL, self->i);
	self->buf = mem_get(MEM_ANON, 4 * MB);
	ASSERT_NE(NULL, self->buf);
	zc_count(&self->z);
}

FIXTURE_TEARDOWN(zc_inplace)
{
	struct zc *z = &self->z;

	if (self->rmem[0])
		tzc_write_file(RMEM, "%s", self->rmem);
	if (!z->srv.running && z->srv.ring.fd >= 0) {
		tzc_action(&z->dev, "reset_ring", 2);
		tzc_ring_resync(&z->srv.ring);
		tzc_srv_start(&z->srv);
	}
	if (self->i)
		session_reset(self->i);
	target_down();
	EXPECT_EQ(0, zc_down(z));
}

/* Another device. */
static void up_again(struct __test_metadata *_metadata,
		     FIXTURE_DATA(zc_inplace) *self, const struct tzc_opts *o)
{
	session_reset(self->i);
	self->i = NULL;
	target_down();
	ASSERT_EQ(0, zc_down(&self->z));
	ASSERT_EQ(0, zc_up(&self->z, o));
	ASSERT_EQ(0, target_up(&self->z));
	self->i = session_up(IQN ":a", 1);
	ASSERT_NE(NULL, self->i);
	zc_count(&self->z);
}

static bool data_in_queue(void *arg)
{
	int n = 0;

	return !ioctl(*(int *)arg, FIONREAD, &n) && n > 8192;
}

/* Start a command by hand, and catch it at the handler. */
#define CATCH(_req, _dir, _buf, _len, _off) ({				\
	struct tzc_cmd *_c;						\
	ASSERT_EQ(0, start(self->i, _req, _dir, _buf, _len, _off));	\
	if ((_dir) == TZC_WRITE) {					\
		struct feed _f = { self->i, &self->z };			\
		ASSERT_EQ(0, service(self->i, POLLIN | POLLOUT, fed, &_f)); \
		_c = _f.cmd;						\
	} else {							\
		_c = zc_wait(&self->z);					\
	}								\
	ASSERT_NE(NULL, _c);						\
	ASSERT_FALSE(tzc_is_mapped(_c));				\
	_c;								\
})

/* Its data has to be sent while we wait for the command. */
struct feed {
	struct iscsi_context *i;
	struct zc *z;
	struct tzc_cmd *cmd;
};

static bool fed(void *arg)
{
	struct feed *f = arg;

	f->cmd = tzc_srv_wait_io(&f->z->srv, 10);
	return f->cmd;
}

/* Every block is back if all that fabrics may have can be had at once. */
static bool all_free(void *arg)
{
	struct zc *z = ((struct feed *)arg)->z;
	struct iscsi_context *i = ((struct feed *)arg)->i;
	static char buf[MB];
	struct tzc_counters c;
	struct req req[HALF / MB];
	unsigned int n, taken;

	zc_count(z);
	for (n = 0; n < ARRAY_SIZE(req); n++)
		if (start(i, &req[n], TZC_WRITE, buf, MB, T_OFF + n * MB))
			return false;
	for (taken = n = 0; n < ARRAY_SIZE(req); n++) {
		if (finish(i, &req[n]))
			return false;
		scsi_free_scsi_task(req[n].task);
	}
	c = zc_count(z);
	taken = c.inplace_cmds;
	return taken == ARRAY_SIZE(req) && !c.inplace_missed;
}

static int wait_all_free(struct iscsi_context *i, struct zc *z)
{
	struct feed f = { i, z };

	return tzc_wait_for(all_free, &f, SOON);
}

/* --- what it is for ------------------------------------------------ */

TEST_F_TIMEOUT(zc_inplace, nothing_is_copied, 60)
{
	static const size_t len[] = {
		512, 4096, 4608, 20992, 64 * KB, 64 * KB + 512, MB,
	};
	struct zc *z = &self->z;
	struct tzc_counters c;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(len); i++) {
		fill(self->buf, len[i], i);
		EXPECT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, len[i], T_OFF));
		EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, len[i], i))
			TH_LOG("%zu bytes", len[i]);
		fill(z->tgt.mem + T_OFF, len[i], i + 100);
		EXPECT_EQ(0, xfer(self->i, TZC_READ, self->buf, len[i], T_OFF));
		EXPECT_TRUE(is_filled(self->buf, len[i], i + 100))
			TH_LOG("%zu bytes", len[i]);
	}
	c = zc_count(z);
	EXPECT_EQ(2 * ARRAY_SIZE(len), c.inplace_cmds);
	EXPECT_EQ(0, c.inplace_missed);
	EXPECT_EQ(0, c.mapped_cmds + c.copied_cmds);
	EXPECT_EQ(0, c.faults + c.ahead + c.pages + c.unmaps);
}

/*
 * What the handler has faulted in once, it keeps, although the network has its
 * references to the pages a little longer than the commands last.
 */
TEST_F_TIMEOUT(zc_inplace, handler_keeps_its_mapping, 240)
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

/* TCP segments sent, over the loopback interface also for the other side. */
static long segments(void)
{
	FILE *f = fopen("/proc/net/snmp", "r");
	char line[512];
	long n = -1;

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "Tcp: %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d %ld",
		       &n);
	if (f)
		fclose(f);
	return n;
}

/* What a READ brings is not sent page by page. */
TEST_F(zc_inplace, pages_share_segments)
{
	long before = segments();

	ASSERT_LE(0, before);
	ASSERT_EQ(0, xfer(self->i, TZC_READ, self->buf, MB, T_OFF));
	EXPECT_GT(MB / PG / 4, segments() - before) {
		TH_LOG("%ld segments", segments() - before);
	}
}

/* The ring entry is that of a copied command, and in one piece. */
TEST_F(zc_inplace, one_iovec_in_the_data_area)
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
	EXPECT_LT(p, zc_range(z));
	EXPECT_TRUE(is_filled(p, MB, 1));
	/* It is the handler's own memory. */
	EXPECT_EQ(0, probe_write(p, 'X'));
	zc_serve(z, cmd);
	EXPECT_EQ(0, finish(self->i, &req));
	scsi_free_scsi_task(req.task);
}

TEST_F(zc_inplace, switched_off)
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

static bool one_missed(void *arg)
{
	return zc_count(arg).inplace_missed;
}

/* Those who find no room are copied, and nobody waits. */
TEST_F_TIMEOUT(zc_inplace, area_is_short, 60)
{
	struct iscsi_context *other = session_up(IQN ":b", 2);
	struct req req[HALF / MB + 1];
	struct zc *z = &self->z;
	struct tzc_counters c;
	size_t n;

	ASSERT_NE(NULL, other);
	zc_count(z);
	for (n = 0; n < ARRAY_SIZE(req); n++)
		ASSERT_EQ(0, start(self->i, &req[n], TZC_WRITE, self->buf, MB,
				   T_OFF + n * MB));
	/* The target has its own pace. */
	ASSERT_EQ(0, tzc_wait_for(one_missed, z, SOON));
	fill(self->buf + 3 * MB, 64 * KB, 5);
	EXPECT_EQ(0, xfer(other, TZC_WRITE, self->buf + 3 * MB, 64 * KB,
			  16 * MB));
	EXPECT_TRUE(is_filled(z->tgt.mem + 16 * MB, 64 * KB, 5));
	c = zc_count(z);
	EXPECT_EQ(1, c.inplace_missed);
	EXPECT_EQ(1, c.mapped_cmds + c.copied_cmds);
	for (n = 0; n < ARRAY_SIZE(req); n++)
		EXPECT_EQ(0, finish(self->i, &req[n]));
	EXPECT_EQ(0, wait_all_free(self->i, z));
	session_down(other);
}

struct waiting {
	struct zc *z;
	struct iscsi_context *other;
	struct req req;
	char *buf;
	bool started;
};

/* Small commands get blocks until there is one that waits for some. */
static bool somebody_waits(void *arg)
{
	struct waiting *w = arg;
	struct pollfd pfd = { .fd = iscsi_get_fd(w->other) };

	if (!w->started || w->req.done) {
		if (w->started)
			scsi_free_scsi_task(w->req.task);
		w->started = true;
		if (start(w->other, &w->req, TZC_WRITE, w->buf, TZC_SECTOR,
			  T_OFF + 8 * MB))
			return false;
	}
	pfd.events = iscsi_which_events(w->other);
	poll(&pfd, 1, 10);
	iscsi_service(w->other, pfd.revents);
	return zc_count(w->z).inplace_missed;
}

/* What a fabric gives back, others wait for. */
TEST_F_TIMEOUT(zc_inplace, blocks_that_others_wait_for, 60)
{
	static const size_t held = 1536 * KB, needed = 3 * MB;
	struct zc *z = &self->z;
	struct iscsi_context *i;
	struct req read, write;
	struct waiting w = { .z = z, .buf = self->buf };
	int fd;

	ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_min_bytes", "1073741824"));
	ASSERT_EQ(0, tzc_write_file(RMEM, "4096 16384 16384"));
	i = session_up(IQN ":b", 2);
	w.other = session_up(IQN ":c", 3);
	ASSERT_NE(NULL, i);
	ASSERT_NE(NULL, w.other);

	/* The handler is done with it when data arrives, the target isn't. */
	ASSERT_EQ(0, start(i, &read, TZC_READ, NULL, held, T_OFF));
	fd = iscsi_get_fd(i);
	ASSERT_EQ(0, tzc_wait_for(data_in_queue, &fd, SOON));

	zc_count(z);
	fill(self->buf, needed, 1);
	ASSERT_EQ(0, start(self->i, &write, TZC_WRITE, self->buf, needed, T_OFF));
	ASSERT_EQ(0, service(self->i, POLLIN | POLLOUT, somebody_waits, &w));
	EXPECT_FALSE(write.done);

	session_reset(i);
	EXPECT_EQ(0, finish(self->i, &write));
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, needed, 1));
	EXPECT_EQ(0, finish(w.other, &w.req));
	scsi_free_scsi_task(write.task);
	scsi_free_scsi_task(w.req.task);
	session_down(w.other);
}

/* Being tried again, whenever some other command ends, doesn't give it time. */
TEST_F_TIMEOUT(zc_inplace, waits_no_longer_than_it_may, 120)
{
	enum { SMALL = 32 * KB, NR = HALF / SMALL };
	struct zc *z = &self->z;
	struct tzc_cmd *held[NR];
	struct req req[NR], big;
	int n, ret;

	ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_in_place", "0"));
	ASSERT_EQ(0, tzc_attr_set(&z->dev, "zero_copy_min_bytes", "1073741824"));
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

/* --- connections that break ---------------------------------------- */

/* A debug kernel takes seconds for a session. */
static int nr_resets(void)
{
	return access("/sys/kernel/debug/kmemleak", F_OK) ? 50 : 8;
}

TEST_F_TIMEOUT(zc_inplace, reset_while_data_out_is_arriving, 200)
{
	struct zc *z = &self->z;
	struct iscsi_context *i;
	struct req req[2];
	int n;

	for (n = 0; n < nr_resets(); n++) {
		i = session_up(IQN ":b", 2);
		ASSERT_NE(NULL, i);
		ASSERT_EQ(0, start(i, &req[0], TZC_WRITE, self->buf, MB, T_OFF));
		/* Of this one, some data is sent. */
		ASSERT_EQ(0, start(i, &req[1], TZC_WRITE, self->buf, MB,
				   T_OFF + MB));
		if (n % 2)
			service(i, POLLIN, all_sent, i);
		session_reset(i);
	}
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

TEST_F_TIMEOUT(zc_inplace, reset_while_data_in_is_sent, 200)
{
	struct zc *z = &self->z;
	struct iscsi_context *i;
	struct req req[4];
	int n, k;

	/* What isn't read stays with the sender. */
	ASSERT_EQ(0, tzc_write_file(RMEM, "4096 16384 16384"));
	for (n = 0; n < nr_resets(); n++) {
		i = session_up(IQN ":b", 2);
		ASSERT_NE(NULL, i);
		for (k = 0; k < 4; k++)
			ASSERT_EQ(0, start(i, &req[k], TZC_READ, NULL, 256 * KB,
					   T_OFF + k * MB));
		session_reset(i);
	}
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

static bool has_run(const char *p, size_t len, char c, size_t run)
{
	size_t i, n = 0;

	for (i = 0; i < len; i++) {
		n = p[i] == c ? n + 1 : 0;
		if (n == run)
			return true;
	}
	return false;
}

struct drops {
	struct zc *z;
	uint64_t nr, wanted;	/* pages */
};

static bool all_dropped(void *arg)
{
	struct drops *d = arg;

	d->nr += zc_count(d->z).inplace_dropped;
	return d->nr >= d->wanted;
}

/* All that fabrics may have is used for something else. */
static int use_half(struct iscsi_context *i, char *buf)
{
	int n, ret = 0;

	memset(buf, 0x5a, MB);
	for (n = 0; n < 2 * AREA_MB && !ret; n++)
		ret = xfer(i, TZC_WRITE, buf, MB, T_OFF + (2 + n % 4) * MB);
	return ret;
}

/*
 * The target closes a connection, as another one takes over its session. What
 * is in the send queue still goes to the initiator, who takes it: it must be
 * what was read, and not what the blocks are used for afterwards.
 */
TEST_F_TIMEOUT(zc_inplace, send_queue_outlives_the_command, 120)
{
	struct zc *z = &self->z;
	struct drops d = { .z = z, .wanted = 1 };
	struct iscsi_context *i, *again;
	static char in[4 * MB];
	size_t got = 0;
	struct req req;
	ssize_t ret;
	int fd;

	memset(z->tgt.mem + T_OFF, 0xa5, MB);
	ASSERT_EQ(0, tzc_write_file(RMEM, "4096 16384 16384"));
	i = session_up(IQN ":b", 2);
	ASSERT_NE(NULL, i);
	fd = dup(iscsi_get_fd(i));
	zc_count(z);
	ASSERT_EQ(0, start(i, &req, TZC_READ, NULL, MB, T_OFF));
	ASSERT_EQ(0, tzc_wait_for(data_in_queue, &fd, SOON));

	again = session_up(IQN ":b", 2);
	ASSERT_NE(NULL, again);
	/* While the network has its grace period, and after it. */
	ASSERT_EQ(0, use_half(again, self->buf));
	EXPECT_EQ(0, tzc_wait_for(all_dropped, &d, SOON)) {
		TH_LOG("the connection was gone before its data");
	}
	ASSERT_EQ(0, use_half(again, self->buf));

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	while (got < sizeof(in) &&
	       (ret = recv(fd, in + got, sizeof(in) - got, 0)) > 0)
		got += ret;
	EXPECT_LT(16384, got);
	EXPECT_TRUE(has_run(in, got, (char)0xa5, 4096));
	EXPECT_FALSE(has_run(in, got, 0x5a, 64));
	close(fd);
	iscsi_destroy_context(i);
	EXPECT_EQ(0, wait_all_free(again, z));
	session_down(again);
}

/*
 * Blocks of three pages, and somebody who has the second page of one and the
 * first of the next: both are dropped.
 */
TEST_F_TIMEOUT(zc_inplace, odd_blocks, 60)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;
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

	/* The next command acknowledges that one. */
	ASSERT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, PG, T_OFF + MB));
	EXPECT_EQ(0, tzc_wait_for(all_dropped, &d, SOON));
	EXPECT_EQ(2 * 3, d.nr);
	ASSERT_EQ(0, use_half(self->i, self->buf));
	for (n = 1; n <= 3; n += 2) {
		ASSERT_EQ(PG, read(fds[0], kept, PG));
		EXPECT_EQ(0, memcmp(kept, z->tgt.mem + T_OFF + n * PG, PG))
			TH_LOG("page %d", n);
	}
	close(fds[0]);
	close(fds[1]);
}

/* --- commands that end while the handler works on them -------------- */

/* Use all other blocks, so that a block that is free in error is overwritten. */
static int use_blocks(struct iscsi_context *i, struct zc *z)
{
	static char junk[256 * KB];
	int n, ret = 0;

	memset(junk, 0x5a, sizeof(junk));
	if (tzc_srv_start(&z->srv))
		return -EIO;
	for (n = 0; n < 16 && !ret; n++)
		ret = xfer(i, TZC_WRITE, junk, sizeof(junk), 32 * MB);
	tzc_srv_stop(&z->srv);
	return ret;
}

TEST_F_TIMEOUT(zc_inplace, keep_buf, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	struct req req;
	uint16_t id;
	char *p;

	fill(self->buf, MB, 1);
	tzc_srv_stop(&z->srv);
	cmd = CATCH(&req, TZC_WRITE, self->buf, MB, T_OFF);
	p = cmd->iov[0].iov_base;
	id = cmd->id;
	cmd->uflags = TCMU_UFLAG_KEEP_BUF;
	zc_serve(z, cmd);
	EXPECT_EQ(0, finish(self->i, &req));
	scsi_free_scsi_task(req.task);

	/* Unlike pages that were mapped, it is still there. */
	EXPECT_EQ(0, use_blocks(self->i, z));
	EXPECT_TRUE(is_filled(p, MB, 1));
	EXPECT_EQ(0, tzc_action(&z->dev, "free_kept_buf", id));
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

static bool is_expired(void *arg)
{
	struct feed *f = arg;

	return ((struct req *)f->cmd)->done;
}

TEST_F_TIMEOUT(zc_inplace, time_out, 90)
{
	struct tzc_opts o = TZC_OPTS_DEFAULT;
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	struct feed f;
	struct req req;
	char *p;

	fill(self->buf, MB, 1);
	/* It can't be set while there is a LUN. */
	o.area_mb = AREA_MB;
	o.time_out = 3;
	up_again(_metadata, self, &o);

	tzc_srv_stop(&z->srv);
	cmd = CATCH(&req, TZC_WRITE, self->buf, MB, T_OFF);
	p = cmd->iov[0].iov_base;
	f.cmd = (void *)&req;
	EXPECT_EQ(0, service(self->i, POLLIN | POLLOUT, is_expired, &f));
	EXPECT_NE(SCSI_STATUS_GOOD, req.status);
	scsi_free_scsi_task(req.task);

	/* The handler is still at it, and no signal stops it. */
	EXPECT_TRUE(is_filled(p, MB, 1));
	EXPECT_EQ(0, probe_write(p, 'X'));
	memset(p, 0x11, MB);
	zc_done(z, cmd);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

TEST_F_TIMEOUT(zc_inplace, reset_ring_in_flight, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *w, *r;
	struct req req[2];

	fill(self->buf, MB, 1);
	tzc_srv_stop(&z->srv);
	w = CATCH(&req[0], TZC_WRITE, self->buf, MB, T_OFF);
	r = CATCH(&req[1], TZC_READ, NULL, 512 * KB, T_OFF);
	ASSERT_EQ(0, tzc_action(&z->dev, "reset_ring", 1));
	EXPECT_EQ(SCSI_STATUS_BUSY, finish(self->i, &req[0]));
	EXPECT_EQ(SCSI_STATUS_BUSY, finish(self->i, &req[1]));
	scsi_free_scsi_task(req[0].task);
	scsi_free_scsi_task(req[1].task);
	free(w);
	free(r);
	tzc_ring_resync(&z->srv.ring);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

TEST_F_TIMEOUT(zc_inplace, session_lost_in_flight, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *w, *r;
	struct req req[2];
	char *p;

	fill(self->buf, MB, 1);
	tzc_srv_stop(&z->srv);
	w = CATCH(&req[0], TZC_WRITE, self->buf, MB, T_OFF);
	r = CATCH(&req[1], TZC_READ, NULL, 512 * KB, T_OFF);
	p = w->iov[0].iov_base;
	session_reset(self->i);
	self->i = NULL;
	/* The target waits for its commands. */
	EXPECT_TRUE(is_filled(p, MB, 1));
	memset(r->iov[0].iov_base, 0x22, 512 * KB);
	zc_serve(z, w);
	zc_done(z, r);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	self->i = session_up(IQN ":a", 1);
	ASSERT_NE(NULL, self->i);
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

/*
 * Data that lie beyond the end of their command, and never come: the target
 * rejects the command. Wait for the reject, which is preceded by an R2T.
 */
static int get_rejected(struct iscsi_context *i, struct req *req)
{
	uint8_t bhs[48] = { 0x05, 0x80, [6] = 2, [40] = 0x10 };
	uint32_t itt = htonl(req->task->itt);
	struct pollfd pfd = { .fd = iscsi_get_fd(i), .events = POLLIN };
	uint64_t end = tzc_now_ms() + SOON;
	uint8_t in[3 * 48];
	size_t got = 0;
	ssize_t n;

	memcpy(bhs + 16, &itt, 4);
	memset(bhs + 20, 0xff, 4);
	if (write(pfd.fd, bhs, sizeof(bhs)) != sizeof(bhs))
		return -EIO;
	while (got < sizeof(in)) {
		if (tzc_now_ms() > end)
			return -ETIMEDOUT;
		if (poll(&pfd, 1, 10) <= 0)
			continue;
		n = read(pfd.fd, in + got, sizeof(in) - got);
		if (n <= 0)
			return -EIO;
		got += n;
	}
	return (in[48] & 0x3f) == 0x3f ? 0 : -EPROTO;
}

/* The core has no reference to a rejected command any more. */
TEST_F_TIMEOUT(zc_inplace, reset_after_a_reject, 60)
{
	struct zc *z = &self->z;
	struct tzc_cmd *r;
	struct req req[2];

	tzc_srv_stop(&z->srv);
	r = CATCH(&req[0], TZC_READ, NULL, 512 * KB, T_OFF);
	ASSERT_EQ(0, start(self->i, &req[1], TZC_WRITE, self->buf, 64 * KB,
			   T_OFF + MB));
	ASSERT_EQ(0, get_rejected(self->i, &req[1]));
	session_reset(self->i);
	self->i = NULL;
	/* The target waits for the READ. Nothing shows that it has begun to. */
	sleep(1);
	zc_done(z, r);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	self->i = session_up(IQN ":a", 1);
	ASSERT_NE(NULL, self->i);
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

static void *abort_thread(void *arg)
{
	struct tzc_cmd *cmd;
	struct zc *z = arg;

	/* The target answers when the command has ended. */
	cmd = zc_wait(z);
	if (cmd)
		zc_serve(z, cmd);
	return NULL;
}

TEST_F_TIMEOUT(zc_inplace, aborted, 60)
{
	struct zc *z = &self->z;
	struct req req;
	pthread_t thr;

	tzc_srv_stop(&z->srv);
	ASSERT_EQ(0, start(self->i, &req, TZC_READ, NULL, MB, T_OFF));
	ASSERT_EQ(0, pthread_create(&thr, NULL, abort_thread, z));
	iscsi_task_mgmt_abort_task_sync(self->i, req.task);
	pthread_join(thr, NULL);
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

/* The fabric has the memory of a device that is no more. */
TEST_F_TIMEOUT(zc_inplace, device_removed_while_data_in_is_sent, 90)
{
	struct zc *z = &self->z;
	struct iscsi_context *i;
	struct req req;
	int fd;

	ASSERT_EQ(0, tzc_write_file(RMEM, "4096 16384 16384"));
	i = session_up(IQN ":b", 2);
	ASSERT_NE(NULL, i);
	fd = iscsi_get_fd(i);
	ASSERT_EQ(0, start(i, &req, TZC_READ, NULL, MB, T_OFF));
	ASSERT_EQ(0, tzc_wait_for(data_in_queue, &fd, SOON));
	session_reset(self->i);
	self->i = NULL;

	target_lun_down();
	EXPECT_EQ(-1, access(LUN, F_OK));
	EXPECT_EQ(0, zc_down(z));
	EXPECT_EQ(-1, access(z->dev.dir, F_OK));
	session_reset(i);
	target_down();
}

/* What was acknowledged last may not be back yet. */
static bool half_is_free(void *arg)
{
	FIXTURE_DATA(zc_inplace) *self = arg;

	zc_count(&self->z);
	return !xfer(self->i, TZC_WRITE, self->buf, MB, T_OFF) &&
	       zc_count(&self->z).inplace_cmds == 1;
}

/* --- the shrinker -------------------------------------------------- */

TEST_F_TIMEOUT(zc_inplace, shrinker, 60)
{
	const char *param = "/sys/module/target_core_user/parameters/global_max_data_area_mb";
	struct zc *z = &self->z;
	struct tzc_cmd *cmd;
	char limit[16] = "";
	struct req req;
	char *p;
	int n;

	/* Blocks above those of the command that stays. */
	for (n = 0; n < 2; n++)
		ASSERT_EQ(0, xfer(self->i, TZC_WRITE, self->buf, 2 * MB, T_OFF));
	ASSERT_EQ(0, wait_all_free(self->i, z));
	ASSERT_EQ(0, tzc_wait_for(half_is_free, self, SOON));
	ASSERT_LT(0, tzc_read_file(param, limit, sizeof(limit)));
	fill(self->buf, MB, 1);
	tzc_srv_stop(&z->srv);
	cmd = CATCH(&req, TZC_WRITE, self->buf, MB, T_OFF);
	p = cmd->iov[0].iov_base;
	EXPECT_EQ(0, tzc_write_file(param, "1"));
	for (n = 0; n < 100; n++) {
		tzc_write_file(param, "1");
		if (probe_read(p + 1536 * KB) == SIGBUS)
			break;
		usleep(50000);
	}
	EXPECT_NE(100, n);
	EXPECT_TRUE(is_filled(p, MB, 1));
	tzc_write_file(param, "%s", limit);
	zc_serve(z, cmd);
	EXPECT_EQ(0, finish(self->i, &req));
	scsi_free_scsi_task(req.task);
	EXPECT_TRUE(is_filled(z->tgt.mem + T_OFF, MB, 1));
	EXPECT_EQ(0, tzc_srv_start(&z->srv));
	EXPECT_EQ(0, wait_all_free(self->i, z));
}

TEST_HARNESS_MAIN
