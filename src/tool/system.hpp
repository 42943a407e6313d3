// SPDX-License-Identifier: GPL-2.0
// The running system: files of /sys and /proc, and programs. All of it may be missing,
// and all of it may vanish while it is read: what is not there is empty.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/types.hpp"

namespace tool {

// An absolute path of the system that is looked at: below the folder in LLBITMAP_ROOT, if
// that is set. It is for tests: the tool then sees nothing of the machine that it runs on.
std::string at(const std::string &path);

// The file's first 64 KiB, or as many as said; none: it cannot be read.
std::optional<std::string> file_text(const std::string &path, size_t most = 65536);
// Its first line, without the end and without blanks around it; empty if it cannot be read.
std::string file_line(const std::string &path);
// Its first line as a number in full; none: it is something else.
std::optional<u64> file_number(const std::string &path);
std::optional<u64> number(const std::string &text);
// The names in a folder, in the order of a human: md2 before md10.
std::vector<std::string> names_in(const std::string &path);
bool exists(const std::string &path);
bool is_folder(const std::string &path);
// Seconds since 1970; 0: there is no such file.
s64 changed_at(const std::string &path);

// The kernel's name of the block device whose node or link that path is, by its number and not by what
// it is called: an image may be called md0, too. Empty: it is none.
std::string block_device(const std::string &path);

bool before(const std::string &one,
	    const std::string &other); // md2 before md10, 7.2.9 before 7.2.12, 7.3~rc5 before 7.3
std::string trimmed(const std::string &text);
std::vector<std::string> words(const std::string &text);
std::vector<std::string> lines(const std::string &text);

// What a program of PATH (or of the folders for root's) says, 64 MiB of it at most; none: there
// is no such program, or it ended badly. It gets no input. Warnings are on stderr, which is not
// listened to unless it is asked for.
enum class Ends { Well, Anyhow };
enum class Hears { Stdout, Both };
std::optional<std::string> said_by(const std::vector<std::string> &command, Ends ends = Ends::Well,
				   Hears hears = Hears::Stdout);

// Runs it, with our output and without input; its status, 128 and more: killed by that signal.
constexpr int kNoProgram = 127;
int run_program(const std::vector<std::string> &command);
// Is there a program of that name in PATH (or in the folders for root's)?
bool have_program(const std::string &name);

} // namespace tool
