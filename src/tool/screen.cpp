// SPDX-License-Identifier: GPL-2.0
#include "tool/screen.hpp"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unistd.h>

#include "tool/text.hpp"

namespace tool {

Screen::Colours Screen::colours = Screen::Colours::Auto;

std::string text(const char *format, ...)
{
	char line[1024];
	va_list args;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	return line;
}

std::string bytes_text(u64 bytes)
{
	constexpr const char *units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	if (bytes < 1024)
		return text("%llu bytes", static_cast<unsigned long long>(bytes));
	u32 unit = 1;
	double value = double(bytes) / 1024;
	while (value >= 1023.95 && unit + 1 < std::size(units)) {
		value /= 1024;
		unit++;
	}
	bool whole = value == double(u64(value));
	return text(whole || value >= 999.95 ? "%.0f %s" : "%.1f %s", value, units[unit]);
}

std::string seconds_text(u64 seconds)
{
	struct Pair {
		u64 unit, next;
		const char *names[2];
	};
	constexpr Pair pairs[] = {{86400, 3600, {"d", "h"}}, {3600, 60, {"h", "min"}}, {60, 1, {"min", "s"}}};
	for (const Pair &p : pairs) {
		if (seconds < p.unit)
			continue;
		u64 most = seconds / p.unit, rest = seconds % p.unit / p.next;
		std::string shown = std::to_string(most) + ' ' + p.names[0];
		return rest ? shown + ' ' + std::to_string(rest) + ' ' + p.names[1] : shown;
	}
	return std::to_string(seconds) + " s";
}

std::string grouped(u64 value)
{
	std::string digits = std::to_string(value);
	for (size_t i = digits.size(); i > 3;) {
		i -= 3;
		digits.insert(i, 1, ',');
	}
	return digits;
}

std::string percent_text(u64 part, u64 whole)
{
	if (!whole)
		return "0 %";
	double p = 100.0 * double(part) / double(whole);
	if (part && p < 0.1)
		return "< 0.1 %";
	if (part < whole && p > 99.9)
		return "> 99.9 %";
	return text(part == 0 || part == whole ? "%.0f %%" : "%.1f %%", p);
}

bool colourful()
{
	if (Screen::colours != Screen::Colours::Auto)
		return Screen::colours == Screen::Colours::Always;
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	return isatty(STDOUT_FILENO) && !(no && *no) && term && strcmp(term, "dumb");
}

namespace {

// A number stays with its unit.
bool together(const std::string &word, const std::string &next)
{
	auto digit = [](char c) { return c >= '0' && c <= '9'; };
	if (word == "d" || word == "h" || word == "min")
		return digit(next[0]);
	return word == "<" || word == ">" || (digit(word[0]) && !digit(next[0]) && next.size() <= 5);
}

} // namespace

std::vector<std::string> wrapped(const std::string &words, size_t columns)
{
	std::vector<std::string> found;
	std::string line;
	for (size_t i = 0; i < words.size();) {
		size_t end = std::min(words.find(' ', i), words.size());
		std::string word = words.substr(i, end - i);
		i = end + 1;
		while (i < words.size() && !word.empty()) {
			end = std::min(words.find(' ', i), words.size());
			std::string next = words.substr(i, end - i);
			if (next.empty() || !together(word.substr(word.rfind(' ') + 1), next))
				break;
			word += ' ' + next;
			i = end + 1;
		}
		if (word.empty())
			continue;
		if (!line.empty() && line.size() + 1 + word.size() > columns) {
			found.push_back(line);
			line.clear();
		}
		line += (line.empty() ? "" : " ") + word;
	}
	if (!line.empty() || found.empty())
		found.push_back(line);
	return found;
}

std::string short_name(const std::string &name, size_t columns)
{
	std::string shown = printable(name);
	return shown.size() > columns ? shown.substr(0, columns - 1) + '>' : shown;
}

std::string Screen::painted(const std::string &words, Colour colour) const
{
	constexpr const char *codes[] = {"", "\033[32m", "\033[33m", "\033[1;31m", "\033[2m"};
	if (colour == Colour::None || words.empty() || !colourful())
		return words;
	return codes[static_cast<u32>(colour)] + words + "\033[0m";
}

void Screen::field(const std::string &label, const std::string &words, Colour colour)
{
	constexpr size_t indent = 8;
	std::string head =
		label.empty() ? std::string(indent, ' ') : text("%*s:", int(indent - 1), label.c_str());
	for (const std::string &line : wrapped(printable(words), kColumns - indent - 1)) {
		text_ += head + ' ' + painted(line, colour) + '\n';
		head = std::string(indent, ' ');
	}
}

void Screen::line(const std::string &line, Colour colour)
{
	std::string shown = printable(line);
	text_ +=
		painted(shown.size() > kColumns ? shown.substr(0, kColumns - 1) + '>' : shown, colour) + '\n';
}

void Screen::pieces(const std::vector<std::pair<std::string, Colour>> &parts)
{
	for (const auto &[words, colour] : parts)
		text_ += painted(printable(words), colour);
	text_ += '\n';
}

void Screen::gap()
{
	if (!text_.empty())
		text_ += '\n';
}

void Screen::show() const
{
	fwrite(text_.data(), 1, text_.size(), stdout);
}

void Screen::show(size_t rows, size_t columns) const
{
	size_t used = 0, end = 0, all = 0, fit = 0;
	for (size_t at = 0; at < text_.size();) {
		size_t next = std::min(text_.find('\n', at), text_.size() - 1) + 1, wide = 0;
		for (size_t i = at; i + 1 < next; i++) {
			if (text_[i] == '\033') // a colour takes no room
				i = text_.find('m', i);
			else
				wide++;
		}
		used += std::max<size_t>(1, (wide + columns - 1) / columns);
		// One row is for what is said of the rest, one for the cursor.
		if (used + 2 <= rows) {
			end = next;
			fit++;
		}
		all++;
		at = next;
	}
	if (used + 1 <= rows)
		return show();
	fwrite(text_.data(), 1, end, stdout);
	printf("(%zu more lines: llbitmap status)\n", all - fit);
}

} // namespace tool
