// SPDX-License-Identifier: GPL-2.0
// What doctor --fix may do: programs that an administrator would run, named before they are.
#pragma once

#include <string>
#include <vector>

namespace tool {

struct Fix {
	// What must come first has the smaller one: a module that is built goes into an initramfs.
	enum class Turn { Dkms, Module, Initramfs, Array };
	Turn turn;
	std::string id; // of the finding
	std::vector<std::vector<std::string>> commands; // each runs only if the one before went well

	std::string words() const; // the commands, as a shell takes them
};

// Asks (unless told not to) and runs each of them, in their turn; what was asked about before is not
// asked again. How many were carried out; failed: one of them went wrong, and was said.
size_t carry_out(std::vector<Fix> fixes, bool ask, std::vector<std::string> *asked, bool *failed);

} // namespace tool
