// SPDX-License-Identifier: GPL-2.0
#include "tool/map.hpp"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <optional>
#include <unistd.h>

#include "llbitmap/format.h"
#include "llbitmap/release.h"
#include "tool/error.hpp"
#include "tool/member.hpp"
#include "tool/range.hpp"
#include "tool/running.hpp"
#include "tool/screen.hpp"
#include "tool/text.hpp"

using Json = nlohmann::ordered_json;

namespace tool {

namespace {

// The worst first: a cell shows the worst of its chunks.
struct Look {
	u8 state;
	char letter;
	const char *key, *name;
	Colour colour;
	const char *light, *dark; // of the SVG
};
constexpr Look kLooks[] = {
	{LLB_NEED_SYNC, '!', "need_sync", "need sync", Colour::Bad, "#c62828", "#ef5350"},
	{LLB_NEED_SYNC_UNWRITTEN, '?', "need_sync_unwritten", "need sync, never written", Colour::Bad,
	 "#ad1457", "#ec407a"},
	{LLB_SYNCING, '>', "syncing", "syncing", Colour::Notice, "#ef6c00", "#ffa726"},
	{LLB_SYNCING_UNWRITTEN, '+', "syncing_unwritten", "syncing, never written", Colour::Notice, "#f9a825",
	 "#ffee58"},
	{LLB_DIRTY, '#', "dirty", "dirty", Colour::Notice, "#1565c0", "#42a5f5"},
	{LLB_CLEAN_UNWRITTEN, '-', "clean_unwritten", "clean, never written", Colour::Good, "#80cbc4",
	 "#26746c"},
	{LLB_CLEAN, '=', "clean", "clean", Colour::Good, "#43a047", "#2e7d32"},
	{LLB_UNWRITTEN, '.', "unwritten", "unwritten", Colour::Faint, "#e0e0e0", "#424242"},
};
constexpr Look kUnread = {0, ' ', "", "", Colour::None, "", ""};
constexpr u8 kNothing = std::size(kLooks); // of a cell of which nothing was read

u8 rank(u8 byte)
{
	for (u8 i = 0; i < std::size(kLooks); i++) {
		if (kLooks[i].state == byte)
			return i;
	}
	return 0; // no state: it is treated as need sync
}

struct Picture {
	std::string title, from, note;
	u64 chunk_bytes = 0, chunks = 0;
	u64 first = 0, last = 0; // of the chunks that are shown
	u64 per_cell = 1;
	std::vector<u8> cells; // ranks
	u64 counts[std::size(kLooks)] = {}; // of the chunks that are shown
};

void choose_range(Picture &p, const MapWanted &wanted)
{
	if (!p.chunks)
		throw Error(kUnreadable, wanted.what + ": there are no chunks");
	Range range = RangeWords(wanted.range).of(p.chunks, p.chunk_bytes);
	p.first = range.first;
	p.last = range.last;
	u64 shown = p.last - p.first + 1, room = u64{wanted.rows} * wanted.width;
	p.per_cell = (shown + room - 1) / room;
	p.cells.assign((shown + p.per_cell - 1) / p.per_cell, kNothing);
}

void add(Picture &p, u64 first, const u8 *bytes, u64 count)
{
	for (u64 i = 0; i < count; i++) {
		u64 chunk = first + i;
		if (chunk < p.first || chunk > p.last)
			continue;
		u8 r = rank(bytes[i]);
		u8 &cell = p.cells[(chunk - p.first) / p.per_cell];
		cell = std::min(cell, r);
		p.counts[r]++;
	}
}

Picture of_member(const MapWanted &wanted, const std::string &path, const std::string &title)
{
	Member m = Member::read(Device(path, Device::Use::Look));
	const Bitmap &b = m.bitmap;
	if (!b.usable() || !b.read)
		throw Error(kUnreadable, path + ": no bitmap that can be shown (llbitmap examine says why)");
	Picture p;
	p.title = title;
	p.from = path;
	p.chunk_bytes = b.chunk_sectors * kSector;
	p.chunks = b.chunks;
	choose_range(p, wanted);
	bool classic = b.kind != Kind::Lockless;
	if (classic)
		p.note = "a classic bitmap: dirty or clean, and no more";
	else if (b.stale)
		p.note = "older than the array, or marked so: everything is resynchronised";
	m.each_cells([&](u64 first, const Bytes &cells) {
		Bytes states = cells;
		for (u8 &byte : states) {
			if (classic)
				byte = byte ? LLB_DIRTY : LLB_CLEAN;
		}
		add(p, first, states.data(), states.size());
	});
	return p;
}

// From the file that has them as memory has; else as they are on a member, where a chunk may be
// dirty for some more seconds.
Picture of_array(const MapWanted &wanted, const Running &a)
{
	if (!a.active())
		throw Error(kUnreadable, a.name + ": the array does not run; name a member");
	if (a.bitmap == Has::None || !a.redundant())
		throw Error(kUnreadable, a.name + ": the array has no bitmap");
	const std::string path = "/sys/block/" + a.name + "/md/llbitmap/cells";
	if (int fd = open(at(path).c_str(), O_RDONLY | O_CLOEXEC);
	    fd >= 0 && a.chunk.value_or(0) && a.chunks.value_or(0)) {
		Picture p;
		p.title = a.name;
		p.from = path;
		p.chunk_bytes = *a.chunk;
		p.chunks = *a.chunks;
		try {
			choose_range(p, wanted);
		} catch (...) {
			close(fd);
			throw;
		}
		Bytes piece(1u << 20);
		u64 at = 0;
		for (ssize_t got; (got = read(fd, piece.data(), piece.size())) > 0; at += u64(got))
			add(p, at, piece.data(), std::min<u64>(u64(got), p.chunks - std::min(at, p.chunks)));
		close(fd);
		if (at <= p.last)
			p.note = "chunks from " + grouped(at) + " on could not be read";
		return p;
	} else if (fd >= 0) {
		close(fd);
	}
	std::string why = "no member in sync";
	for (const Part &part : a.parts) {
		if (!part.is("in_sync") || part.is("faulty"))
			continue;
		try {
			Picture p = of_member(wanted, at("/dev/" + part.name), a.name);
			p.from = "/dev/" + part.name;
			if (p.note.empty())
				p.note = "as on this member; in memory more may be clean";
			return p;
		} catch (const Error &error) {
			if (error.status == kUsage)
				throw;
			why = error.what();
			if (access(at("/dev/" + part.name).c_str(), R_OK) && errno == EACCES)
				why += "; run as root, or in the group disk";
		}
	}
	throw Error(kUnreadable, why);
}

std::string head_text(const Picture &p)
{
	std::string words = p.title + ": " + grouped(p.chunks) + " chunks of " + bytes_text(p.chunk_bytes);
	if (p.per_cell > 1)
		words += "; a cell is " + grouped(p.per_cell) + " (" +
			 bytes_text(p.per_cell * p.chunk_bytes) + "), its worst state";
	return words;
}

void print(const Picture &p, u32 width)
{
	Screen s;
	for (const std::string &line : wrapped(head_text(p), kColumns))
		s.line(line);
	for (size_t row = 0; row < p.cells.size(); row += width) {
		std::string start = bytes_text((p.first + row * p.per_cell) * p.chunk_bytes);
		std::vector<std::pair<std::string, Colour>> parts{
			{tool::text("%10s ", start.c_str()), Colour::None}};
		for (size_t i = row; i < std::min(p.cells.size(), row + width); i++) {
			const Look &look = p.cells[i] == kNothing ? kUnread : kLooks[p.cells[i]];
			if (i == row || parts.back().second != look.colour)
				parts.push_back({"", look.colour});
			parts.back().first += look.letter;
		}
		s.pieces(parts);
	}
	std::string legend;
	for (u32 i = 0; i < std::size(kLooks); i++) {
		if (p.counts[i])
			legend += std::string(1, kLooks[i].letter) + "\u00a0" + kLooks[i].name + "\u00a0" +
				  grouped(p.counts[i]) + "  ";
	}
	for (std::string line : wrapped(legend, kColumns)) {
		for (size_t i; (i = line.find("\u00a0")) != line.npos;)
			line.replace(i, 2, " ");
		s.line(line);
	}
	s.line("from " + p.from + (p.note.empty() ? "" : " (" + p.note + ")"), Colour::Faint);
	s.show();
}

std::string xml(const std::string &words)
{
	std::string out;
	for (char c : printable(words))
		out += c == '<'	  ? "&lt;"
		       : c == '>' ? "&gt;"
		       : c == '&' ? "&amp;"
		       : c == '"' ? "&quot;"
				  : std::string(1, c);
	return out;
}

void print_svg(const Picture &p, u32 width)
{
	constexpr u32 cell = 10, left = 90, top = 40;
	u32 rows = u32((p.cells.size() + width - 1) / width), used = 0;
	for (u64 n : p.counts)
		used += n != 0;
	u32 w = std::max(left + width * cell + 20, 640u), h = top + rows * (cell + 2) + 30 + used * 18;
	std::string out = tool::text(
		"<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" width=\"%u\" height=\"%u\" role=\"img\">\n",
		w, h, w, h);
	out += "<title>" + xml(head_text(p)) +
	       "</title>\n<style>\ntext { font: 12px sans-serif; fill: #222 }\n.back { fill: #fff }\n";
	for (const Look &look : kLooks)
		out += tool::text(".%s { fill: %s }\n", look.key, look.light);
	out += "@media (prefers-color-scheme: dark) {\ntext { fill: #eee }\n.back { fill: #121212 }\n";
	for (const Look &look : kLooks)
		out += tool::text(".%s { fill: %s }\n", look.key, look.dark);
	out += "}\n</style>\n<rect class=\"back\" width=\"100%\" height=\"100%\"/>\n";
	out += "<text x=\"10\" y=\"22\">" + xml(head_text(p)) + "</text>\n";
	for (u32 row = 0; row < rows; row++) {
		u32 y = top + row * (cell + 2);
		std::string start = bytes_text((p.first + u64{row} * width * p.per_cell) * p.chunk_bytes);
		out += tool::text("<text x=\"%u\" y=\"%u\" text-anchor=\"end\">%s</text>\n", left - 8, y + 9,
				  start.c_str());
		size_t end = std::min<size_t>(p.cells.size(), size_t{row + 1} * width);
		for (size_t i = size_t{row} * width; i < end;) { // a rectangle for each run
			size_t from = i;
			while (i < end && p.cells[i] == p.cells[from])
				i++;
			if (p.cells[from] != kNothing)
				out += tool::text(
					"<rect class=\"%s\" x=\"%zu\" y=\"%u\" width=\"%zu\" height=\"%u\"/>\n",
					kLooks[p.cells[from]].key, left + (from % width) * cell, y,
					(i - from) * cell, cell);
		}
	}
	u32 y = top + rows * (cell + 2) + 20;
	for (u32 i = 0; i < std::size(kLooks); i++) {
		if (!p.counts[i])
			continue;
		out += tool::text("<rect class=\"%s\" x=\"%u\" y=\"%u\" width=\"%u\" height=\"%u\"/>\n",
				  kLooks[i].key, left, y - 10, cell, cell);
		out += tool::text("<text x=\"%u\" y=\"%u\">%s: %s chunks</text>\n", left + 18, y,
				  kLooks[i].name, grouped(p.counts[i]).c_str());
		y += 18;
	}
	out += "</svg>\n";
	fwrite(out.data(), 1, out.size(), stdout);
}

void print_json(const Picture &p)
{
	Json counts;
	std::string cells;
	for (u32 i = 0; i < std::size(kLooks); i++)
		counts[kLooks[i].key] = p.counts[i];
	for (u8 cell : p.cells)
		cells += cell == kNothing ? ' ' : kLooks[cell].letter;
	Json out{{"format", 1},		 {"tool", LLB_RELEASE},
		 {"exit_status", 0},	 {"name", p.title},
		 {"from", p.from},	 {"chunk_bytes", p.chunk_bytes},
		 {"chunks", p.chunks},	 {"first_chunk", p.first},
		 {"last_chunk", p.last}, {"cell_chunks", p.per_cell},
		 {"cells", cells},	 {"state_chunks", counts}};
	printf("%s\n", out.dump(2, ' ', true, Json::error_handler_t::replace).c_str());
}

} // namespace

int map(const MapWanted &wanted)
{
	RangeWords{wanted.range}; // a wrong command line is one, whatever the device
	std::optional<Picture> p;
	std::vector<Running> found;
	try {
		found = running({wanted.what});
	} catch (const Error &error) {
		if (!exists(wanted.what) && access(wanted.what.c_str(), F_OK))
			throw;
	}
	if (!found.empty())
		p = of_array(wanted, found[0]);
	else
		p = of_member(wanted, exists(wanted.what) ? at(wanted.what) : wanted.what, wanted.what);
	if (wanted.json)
		print_json(*p);
	else if (wanted.svg)
		print_svg(*p, wanted.width);
	else
		print(*p, wanted.width);
	return kDone;
}

} // namespace tool
