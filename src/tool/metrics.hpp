// SPDX-License-Identifier: GPL-2.0
// llbitmap metrics: in Prometheus's text format, for node_exporter's textfile collector.
#pragma once

#include <string>
#include <vector>

namespace tool {

// On stdout, or into a file, which is replaced as a whole. kDone, whatever the arrays' health.
// Throws Error, kBroken, if the file cannot be written.
int metrics(const std::vector<std::string> &arrays, const std::string &output);

} // namespace tool
