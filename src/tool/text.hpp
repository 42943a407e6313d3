// SPDX-License-Identifier: GPL-2.0
// Everything that is printed as text goes through here: names come from a disk or
// from a command line, and must neither steer a terminal nor forge a line.
#pragma once

#include <string>

namespace tool {

// Printable UTF-8 as it is; a backslash doubled; control characters, what reverses or
// breaks a line in Unicode, and bytes that are no UTF-8 as \xNN, byte by byte.
std::string printable(const std::string &text);

// Bytes that are no UTF-8 as \xNN; all else as it is.
std::string utf8(const std::string &text);

// One line on stdout.
void say(const std::string &line);
// One line on stderr, after the tool's name.
void complain(const std::string &line);

} // namespace tool
