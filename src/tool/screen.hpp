// SPDX-License-Identifier: GPL-2.0
// Text for people: at most 80 columns, colours only where they are welcome, and never the
// only sign of anything. It is collected and written at once, so that what reads it along
// the way (a terminal, watch(1), a log) never has half a screen.
#pragma once

#include <string>
#include <vector>

#include "base/types.hpp"

namespace tool {

constexpr u32 kColumns = 80;

__attribute__((format(printf, 1, 2))) std::string text(const char *format, ...);

std::string bytes_text(u64 bytes); // 72 MiB, 25.8 GiB
std::string seconds_text(u64 seconds); // 3 min 20 s
std::string grouped(u64 value); // 119,221
std::string percent_text(u64 part, u64 whole); // 38.1 %; less than 0.1 % and more than 99.9 % are said so

enum class Colour { None, Good, Notice, Bad, Faint };

class Screen {
    public:
	enum class Colours { Auto, Always, Never };
	static Colours colours; // --color

	// label, a colon and words, wrapped behind the label. Escaped.
	void field(const std::string &label, const std::string &words, Colour colour = Colour::None);
	// As it is, but escaped; cut at 80 columns.
	void line(const std::string &line, Colour colour = Colour::None);
	// In pieces of one line, each in its colour. Not cut.
	void pieces(const std::vector<std::pair<std::string, Colour>> &parts);
	void gap(); // an empty line, but not at the beginning
	void clear() { text_.clear(); }
	const std::string &all() const { return text_; }
	void show() const; // on stdout
	// The same on a terminal of that many rows and columns: what does not fit is left out at the
	// end, where the least urgent stands, and counted.
	void show(size_t rows, size_t columns) const;

    private:
	std::string text_;
	std::string painted(const std::string &words, Colour colour) const;
};

// Is stdout a terminal that takes colours and wants them?
bool colourful();
// Words in lines of at most so many columns (a longer word has a line of its own).
std::vector<std::string> wrapped(const std::string &words, size_t columns);
// A name in at most so many columns: escaped, and cut with a '>'.
std::string short_name(const std::string &name, size_t columns);

} // namespace tool
