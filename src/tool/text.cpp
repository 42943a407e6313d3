// SPDX-License-Identifier: GPL-2.0
#include "tool/text.hpp"

#include <cstdio>

#include "base/types.hpp"

namespace tool {

namespace {

// The character that begins at text[at], and how many bytes it has; 0: no UTF-8.
u32 decode(const std::string &text, size_t at, u32 *character)
{
	auto byte = [&](size_t i) { return u32(u8(text[i])); };
	u32 lead = byte(at);
	u32 length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
	if (length < 2) {
		*character = lead;
		return length;
	}
	if (text.size() - at < length)
		return 0;
	u32 value = lead & (0x7f >> length);
	for (u32 i = 1; i < length; i++) {
		if (byte(at + i) >> 6 != 2)
			return 0;
		value = value << 6 | (byte(at + i) & 63);
	}
	constexpr u32 least[] = {0, 0, 0x80, 0x800, 0x10000};
	if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
		return 0;
	*character = value;
	return length;
}

bool harmless(u32 c)
{
	bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
	bool direction = c == 0x61c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
			 (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
			 (c >= 0xe0000 && c <= 0xe0fff);
	return !control && !direction;
}

std::string code(char byte)
{
	char text[8];
	snprintf(text, sizeof(text), "\\x%02x", u8(byte));
	return text;
}

} // namespace

std::string utf8(const std::string &text)
{
	std::string out;
	for (size_t at = 0; at < text.size();) {
		u32 c = 0, length = decode(text, at, &c);
		out += length ? text.substr(at, length) : code(text[at]);
		at += length ? length : 1;
	}
	return out;
}

std::string printable(const std::string &text)
{
	std::string out;
	for (size_t at = 0; at < text.size();) {
		u32 c = 0;
		u32 length = decode(text, at, &c);
		if (length && c == '\\') {
			out += "\\\\";
		} else if (length && harmless(c)) {
			out.append(text, at, length);
		} else {
			length = length ? length : 1;
			for (u32 i = 0; i < length; i++)
				out += code(text[at + i]);
		}
		at += length;
	}
	return out;
}

void say(const std::string &line)
{
	printf("%s\n", printable(line).c_str());
}

void complain(const std::string &line)
{
	fprintf(stderr, "llbitmap: %s\n", printable(line).c_str());
}

} // namespace tool
