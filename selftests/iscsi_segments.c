// SPDX-License-Identifier: GPL-2.0
/* iscsi_segments: The pages of a READ over iSCSI share TCP segments. */
#define FIX_OPTS	TZC_OPTS_STOCK
#include "iscsi_test.h"

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

/* The data of a READ is not sent page by page. */
TEST_F(iscsi, pages_share_segments)
{
	long before = segments();

	ASSERT_LE(0, before);
	ASSERT_EQ(0, xfer(self->i, TZC_READ, self->buf, MB, T_OFF));
	EXPECT_GT(MB / PG / 4, segments() - before) {
		TH_LOG("%ld segments", segments() - before);
	}
}

TZC_MAIN(TZC_NEED_ISCSI)
