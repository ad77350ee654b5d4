// SPDX-License-Identifier: GPL-2.0
/* Both directions in one command: needs a fabric that sends such commands. */
#include "zc_test.h"

TEST(zc_bidi)
{
	/*
	 * The SCSI midlayer has had no bidirectional requests since v5.1, and
	 * without these tcm_loop and SG_IO can't send any. The one fabric that
	 * passes TARGET_SCF_BIDI_OP needs its Fibre Channel adapter.
	 */
	SKIP(return, "only qla2xxx sends bidirectional commands");
}

TEST_HARNESS_MAIN
