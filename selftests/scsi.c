// SPDX-License-Identifier: GPL-2.0
/* Enough of SBC for sd, and the targets that hold the data. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libtcmuzc.h"

#define GOOD			0x00
#define CHECK_CONDITION		0x02

#define MEDIUM_ERROR		0x03
#define ILLEGAL_REQUEST		0x05
#define ASC_INVALID_OPCODE	0x2000
#define ASC_LBA_RANGE		0x2100
#define ASC_INVALID_FIELD	0x2400
#define ASC_READ_ERROR		0x1100
#define ASC_WRITE_ERROR		0x0c00

static uint64_t be(const uint8_t *p, int bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | *p++;
	return v;
}

static void put_be(uint8_t *p, uint64_t v, int bytes)
{
	while (bytes--) {
		p[bytes] = v;
		v >>= 8;
	}
}

static void set_sense(struct tzc_cmd *cmd, uint8_t key, uint16_t asc)
{
	cmd->status = CHECK_CONDITION;
	memset(cmd->sense, 0, sizeof(cmd->sense));
	cmd->sense[0] = 0x70;
	cmd->sense[2] = key;
	cmd->sense[7] = 10;
	put_be(cmd->sense + 12, asc, 2);
}

void tzc_scsi_decode(struct tzc_cmd *cmd)
{
	const uint8_t *c = cmd->cdb;
	uint64_t lba = 0, blocks = 0;

	switch (c[0]) {
	case 0x08: case 0x0a:
		lba = be(c + 1, 3) & 0x1fffff;
		blocks = c[4] ?: 256;
		break;
	case 0x28: case 0x2a:
		lba = be(c + 2, 4);
		blocks = be(c + 7, 2);
		break;
	case 0xa8: case 0xaa:
		lba = be(c + 2, 4);
		blocks = be(c + 6, 4);
		break;
	case 0x88: case 0x8a:
		lba = be(c + 2, 8);
		blocks = be(c + 10, 4);
		break;
	default:
		return;
	}
	/* All write opcodes above have this bit, no read has. */
	cmd->dir = c[0] & 0x02 ? TZC_WRITE : TZC_READ;
	cmd->off = lba * TZC_SECTOR;
	cmd->len = blocks * TZC_SECTOR;
}

/* Spread a reply over the command's buffer, at most alloc bytes. */
static void reply(struct tzc_cmd *cmd, const void *data, size_t len,
		  size_t alloc)
{
	const char *p = data;
	int i;

	if (len > alloc)
		len = alloc;
	for (i = 0; i < cmd->iov_cnt && len; i++) {
		size_t n = cmd->iov[i].iov_len < len ? cmd->iov[i].iov_len : len;

		memcpy(cmd->iov[i].iov_base, p, n);
		p += n;
		len -= n;
	}
	cmd->status = GOOD;
}

static void inquiry(struct tzc_tgt *t, struct tzc_cmd *cmd)
{
	size_t alloc = be(cmd->cdb + 3, 2);
	uint8_t b[96] = { 0 };
	int n;

	if (!(cmd->cdb[1] & 1)) {
		b[2] = 0x06;			/* SPC-4 */
		b[3] = 0x02;
		b[4] = 31;
		b[7] = 0x02;			/* CmdQue */
		memcpy(b + 8, "LIO-ORG tcmu-zero-copy  0001", 28);
		return reply(cmd, b, 36, alloc);
	}
	b[1] = cmd->cdb[2];
	switch (cmd->cdb[2]) {
	case 0x00:
		memcpy(b + 4, "\x00\x80\x83\xb0", 4);
		put_be(b + 2, 4, 2);
		return reply(cmd, b, 8, alloc);
	case 0x80:
		n = snprintf((char *)b + 4, 40, "%s", t->name);
		put_be(b + 2, n, 2);
		return reply(cmd, b, 4 + n, alloc);
	case 0x83:
		n = snprintf((char *)b + 8, 60, "LIO-ORG %s", t->name);
		b[4] = 0x02;			/* ASCII */
		b[5] = 0x01;			/* T10 vendor id */
		b[7] = n;
		put_be(b + 2, n + 4, 2);
		return reply(cmd, b, 8 + n, alloc);
	case 0xb0:
		put_be(b + 2, 0x3c, 2);
		put_be(b + 6, 8, 2);		/* granularity: a page */
		put_be(b + 8, t->max_sectors, 4);
		put_be(b + 12, t->max_sectors, 4);
		put_be(b + 36, 0xffff, 8);	/* WRITE SAME */
		return reply(cmd, b, 64, alloc);
	}
	set_sense(cmd, ILLEGAL_REQUEST, ASC_INVALID_FIELD);
}

static void read_capacity(struct tzc_tgt *t, struct tzc_cmd *cmd)
{
	uint64_t last = t->size / TZC_SECTOR - 1;
	uint8_t b[32] = { 0 };

	if (cmd->cdb[0] == 0x25) {
		put_be(b, last > 0xffffffff ? 0xffffffff : last, 4);
		put_be(b + 4, TZC_SECTOR, 4);
		return reply(cmd, b, 8, 8);
	}
	put_be(b, last, 8);
	put_be(b + 8, TZC_SECTOR, 4);
	b[13] = 3;				/* 4 KiB physical blocks */
	reply(cmd, b, 32, be(cmd->cdb + 10, 4));
}

/*
 * Header and, where asked for, the caching page. No write cache: with one,
 * sd sends SYNCHRONIZE CACHE at moments that tests don't expect.
 */
static void mode_sense(struct tzc_cmd *cmd)
{
	bool ten = cmd->cdb[0] == 0x5a;
	size_t alloc = ten ? be(cmd->cdb + 7, 2) : cmd->cdb[4];
	uint8_t page = cmd->cdb[2] & 0x3f, b[64] = { 0 };
	int n = ten ? 8 : 4;

	if (page == 0x08 || page == 0x3f) {
		b[n] = 0x08;
		b[n + 1] = 0x12;
		n += 20;
	} else if (page) {
		return set_sense(cmd, ILLEGAL_REQUEST, ASC_INVALID_FIELD);
	}
	if (ten)
		put_be(b, n - 2, 2);
	else
		b[0] = n - 1;
	reply(cmd, b, n, alloc);
}

static void read_write(struct tzc_tgt *t, struct tzc_cmd *cmd)
{
	int i, ret;
	size_t room = 0;

	if (cmd->off > t->size || cmd->len > t->size - cmd->off)
		return set_sense(cmd, ILLEGAL_REQUEST, ASC_LBA_RANGE);
	for (i = 0; i < cmd->iov_cnt; i++)
		room += cmd->iov[i].iov_len;
	if (room < cmd->len)
		return set_sense(cmd, ILLEGAL_REQUEST, ASC_INVALID_FIELD);
	ret = t->ops->rw(t, cmd->dir, cmd->iov, cmd->iov_cnt, cmd->off,
			 cmd->len);
	if (ret)
		set_sense(cmd, MEDIUM_ERROR, cmd->dir == TZC_READ ?
			  ASC_READ_ERROR : ASC_WRITE_ERROR);
}

/* How the block layer zeroes; without it, it sends pages full of zeroes. */
static void write_same(struct tzc_tgt *t, struct tzc_cmd *cmd)
{
	bool ten = cmd->cdb[0] == 0x41;
	uint64_t off = be(cmd->cdb + 2, ten ? 4 : 8) * TZC_SECTOR;
	uint64_t len = be(cmd->cdb + (ten ? 7 : 10), ten ? 2 : 4) * TZC_SECTOR;
	char block[TZC_SECTOR], *buf;
	size_t i, n;

	if (off > t->size || len > t->size - off)
		return set_sense(cmd, ILLEGAL_REQUEST, ASC_LBA_RANGE);
	/* UNMAP, ANCHOR or no data: not offered. */
	if (cmd->cdb[1] & 0x19 || !len || !cmd->iov_cnt ||
	    cmd->iov[0].iov_len < TZC_SECTOR)
		return set_sense(cmd, ILLEGAL_REQUEST, ASC_INVALID_FIELD);
	memcpy(block, cmd->iov[0].iov_base, TZC_SECTOR);
	n = len < TZC_MB ? len : TZC_MB;
	buf = malloc(n);
	if (!buf)
		return set_sense(cmd, MEDIUM_ERROR, ASC_WRITE_ERROR);
	for (i = 0; i < n; i += TZC_SECTOR)
		memcpy(buf + i, block, TZC_SECTOR);
	for (; len; len -= n, off += n) {
		struct iovec iov = { .iov_base = buf };

		n = len < TZC_MB ? len : TZC_MB;
		iov.iov_len = n;
		if (t->ops->rw(t, TZC_WRITE, &iov, 1, off, n)) {
			set_sense(cmd, MEDIUM_ERROR, ASC_WRITE_ERROR);
			break;
		}
	}
	free(buf);
}

void tzc_scsi(struct tzc_tgt *t, struct tzc_cmd *cmd)
{
	cmd->status = GOOD;
	if (cmd->dir != TZC_NONE)
		return read_write(t, cmd);

	switch (cmd->cdb[0]) {
	case 0x00:				/* TEST UNIT READY */
	case 0x1b:				/* START STOP UNIT */
		return;
	case 0x12:
		return inquiry(t, cmd);
	case 0x1a: case 0x5a:
		return mode_sense(cmd);
	case 0x25:
		return read_capacity(t, cmd);
	case 0x9e:
		if ((cmd->cdb[1] & 0x1f) == 0x10)
			return read_capacity(t, cmd);
		break;
	case 0x41: case 0x93:
		return write_same(t, cmd);
	case 0x35: case 0x91:			/* SYNCHRONIZE CACHE */
		if (t->ops->flush && t->ops->flush(t))
			set_sense(cmd, MEDIUM_ERROR, ASC_WRITE_ERROR);
		return;
	}
	set_sense(cmd, ILLEGAL_REQUEST, ASC_INVALID_OPCODE);
}

/* --- null: what a handler that does nothing costs ------------------ */

static int null_rw(struct tzc_tgt *t, enum tzc_dir dir,
		   const struct iovec *iov, int cnt, uint64_t off, size_t len)
{
	return 0;
}

const struct tgt_ops tgt_null_ops = {
	.name = "null",
	.rw = null_rw,
};

/* --- touch: the least work of a handler that looks at the data --- */

static int touch_rw(struct tzc_tgt *t, enum tzc_dir dir,
		    const struct iovec *iov, int cnt, uint64_t off, size_t len)
{
	size_t page = sysconf(_SC_PAGESIZE), i;

	for (; cnt && len; cnt--, iov++) {
		char *p = iov->iov_base;
		size_t n = iov->iov_len < len ? iov->iov_len : len;

		for (i = 0; i < n; i += page) {
			if (dir == TZC_READ)
				p[i] = 1;
			else
				asm volatile("" : : "r" (p[i]));
		}
		len -= n;
	}
	return 0;
}

const struct tgt_ops tgt_touch_ops = {
	.name = "touch",
	.rw = touch_rw,
};

/* --- ram ----------------------------------------------------------- */

static int ram_open(struct tzc_tgt *t, const char *arg)
{
	/* Shared: a handler that tests fork has the same disk. */
	t->mem = mmap(NULL, t->size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return t->mem == MAP_FAILED ? -errno : 0;
}

static void ram_close(struct tzc_tgt *t)
{
	munmap(t->mem, t->size);
}

static int ram_rw(struct tzc_tgt *t, enum tzc_dir dir, const struct iovec *iov,
		  int cnt, uint64_t off, size_t len)
{
	char *p = t->mem + off;

	for (; cnt && len; cnt--, iov++) {
		size_t n = iov->iov_len < len ? iov->iov_len : len;

		if (dir == TZC_READ)
			memcpy(iov->iov_base, p, n);
		else
			memcpy(p, iov->iov_base, n);
		p += n;
		len -= n;
	}
	return 0;
}

const struct tgt_ops tgt_ram_ops = {
	.name = "ram",
	.open = ram_open,
	.close = ram_close,
	.rw = ram_rw,
};

/* --- file: data goes between the page cache and the iovecs --------- */

static int file_open(struct tzc_tgt *t, const char *path)
{
	struct stat st;

	t->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (t->fd < 0)
		return -errno;
	if (fstat(t->fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode) && (uint64_t)st.st_size < t->size &&
	    ftruncate(t->fd, t->size))
		return -errno;
	return 0;
}

static void file_close(struct tzc_tgt *t)
{
	close(t->fd);
}

static int file_rw(struct tzc_tgt *t, enum tzc_dir dir, const struct iovec *iov,
		   int cnt, uint64_t off, size_t len)
{
	ssize_t ret = 0;

	/* The last iovec may be longer than the command's data. */
	for (; cnt && len; cnt--, iov++) {
		size_t n = iov->iov_len < len ? iov->iov_len : len;
		char *p = iov->iov_base;

		len -= n;
		for (; n; n -= ret, p += ret, off += ret) {
			ret = dir == TZC_READ ? pread(t->fd, p, n, off) :
						pwrite(t->fd, p, n, off);
			if (ret <= 0)
				return ret ? -errno : -EIO;
		}
	}
	return 0;
}

static int file_flush(struct tzc_tgt *t)
{
	return fdatasync(t->fd) ? -errno : 0;
}

const struct tgt_ops tgt_file_ops = {
	.name = "file",
	.open = file_open,
	.close = file_close,
	.rw = file_rw,
	.flush = file_flush,
};

int tzc_tgt_open(struct tzc_tgt *t, const char *spec, struct tzc_dev *d)
{
	static const struct tgt_ops *const all[] = {
		&tgt_null_ops, &tgt_touch_ops, &tgt_ram_ops, &tgt_file_ops,
	};
	const char *arg = strchr(spec, ':');
	size_t i, n = arg ? (size_t)(arg - spec) : strlen(spec);

	memset(t, 0, sizeof(*t));
	t->size = d->opts.size;
	t->max_sectors = d->opts.max_sectors;
	snprintf(t->name, sizeof(t->name), "%s", d->name);
	for (i = 0; i < ARRAY_SIZE(all); i++) {
		if (strlen(all[i]->name) != n || strncmp(all[i]->name, spec, n))
			continue;
		t->ops = all[i];
		return t->ops->open ? t->ops->open(t, arg ? arg + 1 : "") : 0;
	}
	return -EINVAL;
}

void tzc_tgt_close(struct tzc_tgt *t)
{
	if (t->ops && t->ops->close)
		t->ops->close(t);
	t->ops = NULL;
}
