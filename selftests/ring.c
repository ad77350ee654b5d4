// SPDX-License-Identifier: GPL-2.0
/* The command ring, and a thread that serves it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "libtcmuzc.h"

struct tcmu_cmd_entry *tzc_entry(struct tzc_ring *r, uint32_t pos)
{
	return (void *)(r->map + r->mb->cmdr_off + pos);
}

static uint32_t ring_head(struct tzc_ring *r)
{
	/* Pairs with the release in the kernel's UPDATE_HEAD(). */
	return __atomic_load_n(&r->mb->cmd_head, __ATOMIC_ACQUIRE);
}

static uint32_t ring_after(struct tzc_ring *r, uint32_t pos)
{
	uint32_t len = tcmu_hdr_get_len(tzc_entry(r, pos)->hdr.len_op);

	return (pos + len) % r->mb->cmdr_size;
}

void tzc_ring_resync(struct tzc_ring *r)
{
	r->tail = r->mb->cmd_tail;
	r->next = r->tail;
}

int tzc_ring_open(struct tzc_ring *r, struct tzc_dev *d)
{
	char path[64];
	int ret;

	memset(r, 0, sizeof(*r));
	pthread_mutex_init(&r->lock, NULL);
	snprintf(path, sizeof(path), "/dev/%s", d->uio);
	r->fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (r->fd < 0)
		return -errno;
	r->size = d->map_size;
	r->map = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_SHARED,
		      r->fd, 0);
	if (r->map == MAP_FAILED) {
		ret = -errno;
		close(r->fd);
		r->fd = -1;
		return ret;
	}
	r->mb = (void *)r->map;
	if (r->mb->version != TCMU_MAILBOX_VERSION ||
	    !(r->mb->flags & TCMU_MAILBOX_FLAG_CAP_OOOC)) {
		tzc_ring_close(r);
		return -EPROTO;
	}
	tzc_ring_resync(r);
	return 0;
}

void tzc_ring_close(struct tzc_ring *r)
{
	if (r->map && r->map != MAP_FAILED)
		munmap(r->map, r->size);
	if (r->fd >= 0)
		close(r->fd);
	r->map = NULL;
	r->fd = -1;
}

static struct tzc_cmd *read_entry(struct tzc_ring *r,
				  struct tcmu_cmd_entry *ent)
{
	int i, nr = ent->req.iov_cnt + ent->req.iov_bidi_cnt;
	struct tzc_cmd *cmd;

	cmd = calloc(1, sizeof(*cmd) + nr * sizeof(cmd->iov[0]));
	if (!cmd)
		abort();
	cmd->ent = ent;
	cmd->id = ent->hdr.cmd_id;
	if (!r->stock)
		cmd->kflags = ent->hdr.kflags;
	memcpy(cmd->cdb, r->map + ent->req.cdb_off, sizeof(cmd->cdb));
	cmd->iov_cnt = ent->req.iov_cnt;
	cmd->bidi_cnt = ent->req.iov_bidi_cnt;
	for (i = 0; i < nr; i++) {
		cmd->iov[i].iov_base = r->map + (size_t)ent->req.iov[i].iov_base;
		cmd->iov[i].iov_len = ent->req.iov[i].iov_len;
	}
	tzc_scsi_decode(cmd);
	return cmd;
}

struct tzc_cmd *tzc_next(struct tzc_ring *r)
{
	struct tzc_cmd *cmd = NULL;
	struct tcmu_cmd_entry *ent;

	pthread_mutex_lock(&r->lock);
	while (!cmd && r->next != ring_head(r)) {
		ent = tzc_entry(r, r->next);
		if (tcmu_hdr_get_op(ent->hdr.len_op) == TCMU_OP_CMD)
			cmd = read_entry(r, ent);
		r->next = ring_after(r, r->next);
	}
	pthread_mutex_unlock(&r->lock);
	return cmd;
}

/* Answers go into the oldest entries, whichever command these were for. */
void tzc_complete(struct tzc_ring *r, struct tzc_cmd *cmd)
{
	struct tcmu_cmd_entry *ent;

	pthread_mutex_lock(&r->lock);
	ent = tzc_entry(r, r->tail);
	while (tcmu_hdr_get_op(ent->hdr.len_op) != TCMU_OP_CMD) {
		r->tail = ring_after(r, r->tail);
		ent = tzc_entry(r, r->tail);
	}
	ent->hdr.cmd_id = cmd->id;
	ent->hdr.uflags = cmd->uflags;
	ent->rsp.scsi_status = cmd->status;
	ent->rsp.read_len = 0;
	memcpy(ent->rsp.sense_buffer, cmd->sense, sizeof(cmd->sense));
	r->tail = ring_after(r, r->tail);
	__atomic_store_n(&r->mb->cmd_tail, r->tail, __ATOMIC_RELEASE);
	pthread_mutex_unlock(&r->lock);
	free(cmd);
}

int tzc_notify(struct tzc_ring *r)
{
	uint32_t one = 1;

	return write(r->fd, &one, sizeof(one)) < 0 ? -errno : 0;
}

static void ack_event(struct tzc_ring *r)
{
	uint32_t events;

	/* Another reader may have been quicker: EAGAIN is fine. */
	if (read(r->fd, &events, sizeof(events)) < 0)
		return;
}

/* --- server -------------------------------------------------------- */

static void *srv_worker(void *arg)
{
	struct tzc_srv *s = arg;
	struct tzc_cmd *cmd;

	pthread_mutex_lock(&s->qlock);
	for (;;) {
		while (!s->qhead && !s->qstop)
			pthread_cond_wait(&s->qcond, &s->qlock);
		cmd = s->qhead;
		if (!cmd)
			break;
		s->qhead = cmd->next;
		pthread_mutex_unlock(&s->qlock);
		tzc_scsi(s->tgt, cmd);
		tzc_complete(&s->ring, cmd);
		tzc_notify(&s->ring);
		pthread_mutex_lock(&s->qlock);
	}
	pthread_mutex_unlock(&s->qlock);
	return NULL;
}

static void queue_work(struct tzc_srv *s, struct tzc_cmd *cmd)
{
	pthread_mutex_lock(&s->qlock);
	cmd->next = NULL;
	if (s->qhead)
		s->qtail->next = cmd;
	else
		s->qhead = cmd;
	s->qtail = cmd;
	pthread_cond_signal(&s->qcond);
	pthread_mutex_unlock(&s->qlock);
}

static void serve_ring(struct tzc_srv *s)
{
	struct tzc_cmd *cmd;
	bool done = false;

	while ((cmd = tzc_next(&s->ring))) {
		if (s->nworkers) {
			queue_work(s, cmd);
			continue;
		}
		tzc_scsi(s->tgt, cmd);
		tzc_complete(&s->ring, cmd);
		done = true;
	}
	if (done)
		tzc_notify(&s->ring);
}

static void *srv_thread(void *arg)
{
	struct tzc_srv *s = arg;
	struct pollfd p[2] = {
		{ .fd = s->ring.fd, .events = POLLIN },
		{ .fd = s->stop_fd, .events = POLLIN },
	};

	/* Commands may have been queued before anyone listened. */
	for (;;) {
		serve_ring(s);
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			break;
		if (p[1].revents)
			break;
		/* The device is gone. */
		if (p[0].revents & (POLLERR | POLLNVAL))
			break;
		ack_event(&s->ring);
	}
	return NULL;
}

int tzc_srv_open(struct tzc_srv *s, struct tzc_dev *d, struct tzc_tgt *t)
{
	memset(s, 0, sizeof(*s));
	s->ring.fd = -1;
	s->dev = d;
	s->tgt = t;
	s->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (s->stop_fd < 0)
		return -errno;
	pthread_mutex_init(&s->qlock, NULL);
	pthread_cond_init(&s->qcond, NULL);
	return tzc_ring_open(&s->ring, d);
}

int tzc_srv_start(struct tzc_srv *s)
{
	int i, ret;

	s->qstop = false;
	for (i = 0; i < s->nworkers; i++) {
		ret = pthread_create(&s->workers[i], NULL, srv_worker, s);
		if (ret)
			return -ret;
	}
	ret = pthread_create(&s->thr, NULL, srv_thread, s);
	if (ret)
		return -ret;
	s->dev->served = true;
	return 0;
}

void tzc_srv_stop(struct tzc_srv *s)
{
	uint64_t v = 1;
	int i;

	if (!s->dev || !s->dev->served)
		return;
	if (write(s->stop_fd, &v, sizeof(v)) != sizeof(v))
		abort();
	pthread_join(s->thr, NULL);
	pthread_mutex_lock(&s->qlock);
	s->qstop = true;
	pthread_cond_broadcast(&s->qcond);
	pthread_mutex_unlock(&s->qlock);
	for (i = 0; i < s->nworkers; i++)
		pthread_join(s->workers[i], NULL);
	if (read(s->stop_fd, &v, sizeof(v)) != sizeof(v))
		abort();
	s->dev->served = false;
}

void tzc_srv_close(struct tzc_srv *s)
{
	tzc_srv_stop(s);
	tzc_ring_close(&s->ring);
	if (s->stop_fd > 0)
		close(s->stop_fd);
	s->stop_fd = -1;
}

struct tzc_cmd *tzc_srv_wait_io(struct tzc_srv *s, int timeout_ms)
{
	struct pollfd p = { .fd = s->ring.fd, .events = POLLIN };
	uint64_t end = tzc_now_ms() + timeout_ms;
	struct tzc_cmd *cmd;

	for (;;) {
		uint64_t now;

		while ((cmd = tzc_next(&s->ring))) {
			/* Not the partition scan's. */
			if (cmd->dir != TZC_NONE && cmd->off >= TZC_MB &&
			    cmd->off + cmd->len + TZC_MB <= s->tgt->size)
				return cmd;
			tzc_scsi(s->tgt, cmd);
			tzc_complete(&s->ring, cmd);
			tzc_notify(&s->ring);
		}
		now = tzc_now_ms();
		if (now >= end)
			return NULL;
		if (poll(&p, 1, end - now) > 0)
			ack_event(&s->ring);
	}
}
