// SPDX-License-Identifier: GPL-2.0
#pragma once

// 0, or 1 and a line for each thing that is not as it should be.
int self_test();
