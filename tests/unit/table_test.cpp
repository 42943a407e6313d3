// SPDX-License-Identifier: GPL-2.0
// The state table, written out from the design a second time.
#include <sstream>

#include "rig.hpp"

using core::Context;
using core::Event;
using core::State;

namespace {

const char *const kTable =
	"from StartWrite StartSync EndSync AbortSync Reload Daemon Discard Stale ProactiveSync ClearUnwritten\n"
	"Unwritten Dirty - - - - - - - NeedSyncUnwritten -\n"
	"Clean Dirty - - - - - Unwritten NeedSync - -\n"
	"Dirty - - - - NeedSync Clean Unwritten NeedSync - -\n"
	"NeedSync - Syncing - - - - Unwritten - - -\n"
	"Syncing - Syncing Dirty NeedSync NeedSync - Unwritten NeedSync - -\n"
	"NeedSyncUnwritten NeedSync SyncingUnwritten - Unwritten Unwritten - Unwritten Unwritten - Unwritten\n"
	"SyncingUnwritten Syncing SyncingUnwritten CleanUnwritten Unwritten Unwritten - Unwritten Unwritten - Unwritten\n"
	"CleanUnwritten Dirty - - - - - Unwritten Unwritten - Unwritten\n";

// The footnotes: what replaces a cell of the table.
struct Footnote {
	const char *from, *event, *to;
	bool parity, degraded; // applies if the array is one of these
	bool degraded_mirror = false; // raid4/5/6 recover from parity, which stays valid
};
const Footnote kFootnotes[] = {
	{"Unwritten", "StartWrite", "NeedSync", true, false},
	{"Unwritten", "StartWrite", "NeedSync", false, false, true},
	{"Clean", "StartWrite", "NeedSync", false, false, true},
	{"CleanUnwritten", "StartWrite", "NeedSync", false, false, true},
	{"Dirty", "StartSync", "Syncing", false, true},
	{"Dirty", "Daemon", "-", false, true},
};

const std::vector<std::string> kEventNames = {"StartWrite",    "StartSync",	"EndSync", "AbortSync",
					      "Reload",	       "Daemon",	"Discard", "Stale",
					      "ProactiveSync", "ClearUnwritten"};

State state_named(const std::string &name)
{
	for (u8 i = 0; i < LLB_STATES; i++) {
		if (name == rig::name(static_cast<State>(i)))
			return static_cast<State>(i);
	}
	EXPECT_EQ(name, "-");
	return State::None;
}

State expected(State from, Event event, Context ctx)
{
	std::istringstream lines(kTable);
	std::string line, word, want;
	std::getline(lines, line);
	while (std::getline(lines, line)) {
		std::istringstream words(line);
		words >> word;
		if (word != rig::name(from))
			continue;
		for (u32 i = 0; i <= u32(event); i++)
			words >> want;
	}
	for (const Footnote &f : kFootnotes) {
		if (rig::name(from) == std::string(f.from) && kEventNames[u32(event)] == f.event &&
		    ((f.parity && ctx.parity) || (f.degraded && ctx.degraded) ||
		     (f.degraded_mirror && ctx.degraded && !ctx.parity)))
			want = f.to;
	}
	return state_named(want);
}

const Context kContexts[] = {{false, false}, {true, false}, {false, true}, {true, true}};

TEST(StateTable, EveryCellWithItsFootnotes)
{
	ASSERT_EQ(kEventNames.size(), core::kEvents);
	for (Context ctx : kContexts) {
		for (u8 s = 0; s < LLB_STATES; s++) {
			for (u8 e = 0; e < core::kEvents; e++) {
				State from = static_cast<State>(s);
				Event event = static_cast<Event>(e);
				EXPECT_EQ(core::next(from, event, ctx), expected(from, event, ctx))
					<< rig::name(from) << " " << kEventNames[e] << " parity "
					<< ctx.parity << " degraded " << ctx.degraded;
			}
		}
	}
}

TEST(StateTable, ApplyKeepsCoveredAndTakesOffTheRest)
{
	const u8 flags[] = {0, core::kDirtyOnDisk, core::kCleaning, core::kTrim, core::kEnded, 0x78};
	for (Context ctx : kContexts) {
		for (u8 s = 0; s < LLB_STATES; s++) {
			for (u8 e = 0; e < core::kEvents; e++) {
				for (u8 f : flags) {
					core::Cell cell(u8(s | f));
					State to =
						expected(static_cast<State>(s), static_cast<Event>(e), ctx);
					EXPECT_EQ(core::apply(cell, static_cast<Event>(e), ctx), to);
					u8 want = to == State::None ? u8(s | f)
								    : u8(u8(to) | (f & core::kDirtyOnDisk));
					EXPECT_EQ(cell.load_relaxed(), want);
				}
			}
		}
	}
}

TEST(StateTable, DiskByte)
{
	for (u32 raw = 0; raw < 128; raw++) {
		u8 s = raw & 7;
		bool dirty_like = s == LLB_DIRTY || s == LLB_NEED_SYNC || s == LLB_SYNCING;
		u8 want = dirty_like ? s : (raw & core::kDirtyOnDisk) ? LLB_DIRTY : s;
		EXPECT_EQ(core::disk_byte(u8(raw)), want) << raw;
	}
	static_assert(!core::dirty_like(State::SyncingUnwritten)); // it reloads to Unwritten
}

// The same transitions through the entry, in the cell and on disk.
TEST(StateTable, StartWriteFromEveryState)
{
	for (s32 level : {1, 10, 4, 5, 6}) {
		for (bool degraded : {false, true}) {
			rig::Rig r({.level = level, .members = 3});
			r.start();
			if (degraded)
				r.h.fail_member(2);
			Context ctx = {level >= 4 && level <= 6, degraded};
			for (u8 s = 0; s < LLB_STATES; s++) {
				State from = static_cast<State>(s);
				State want = expected(from, Event::StartWrite, ctx);
				if (want == State::None)
					want = from;
				r.set_raw(s, s);
				r.begin(s);
				EXPECT_EQ(r.state(s), want)
					<< rig::name(from) << " level " << level << " degraded " << degraded;
				EXPECT_TRUE(r.reloads_to_sync(r.disk(s))) << rig::name(from);
				EXPECT_TRUE(r.raw(s) & core::kDirtyOnDisk);
				r.end(s);
			}
		}
	}
}

// raid0 and linear have no bitmap; 10 is a mirror, 4, 5 and 6 have parity.
TEST(StateTable, RaidLevelsWithParity)
{
	for (s32 level : {1, 10, 4, 5, 6}) {
		rig::Rig r({.level = level, .members = 4});
		r.start();
		r.begin(0);
		EXPECT_EQ(r.state(0), level == 1 || level == 10 ? State::Dirty : State::NeedSync) << level;
		r.end(0);
	}
}

// Eight cells at once are as eight times one: every byte, in every place, among others.
TEST(Cells, EightAtOnce)
{
	u64 random = 88172645463325252ull;
	for (u32 turn = 0; turn < 256 * 8 * 4; turn++) {
		u8 raw[8], bytes[8];
		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		memcpy(raw, &random, 8);
		raw[turn / 256 % 8] = u8(turn);
		u64 word;
		memcpy(&word, raw, 8);
		u64 disk = core::eight::disk_bytes(word);
		u64 dirty = core::eight::dirty_like(word);
		memcpy(bytes, &disk, 8);
		bool fresh = false;
		for (u32 i = 0; i < 8; i++) {
			bool is = core::dirty_like(core::state_of(raw[i]));
			fresh |= is && !(raw[i] & core::kDirtyOnDisk);
			EXPECT_EQ(bytes[i], core::disk_byte(raw[i])) << u32(raw[i]);
			EXPECT_EQ(reinterpret_cast<const u8 *>(&dirty)[i], is ? core::kDirtyOnDisk : 0);
		}
		EXPECT_EQ(core::eight::fresh(word) != 0, fresh);
	}
}

} // namespace
