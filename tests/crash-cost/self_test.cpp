// SPDX-License-Identifier: GPL-2.0
// The models do what their rules say, and the core's platform what a kernel would.
#include "self_test.hpp"

#include <cstdio>
#include <cstring>
#include <string>

#include "run.hpp"

namespace {

constexpr u64 kSecond = 1000000;
constexpr u64 kTiB = u64{1} << 40;
constexpr u64 kMiB = u64{1} << 20;
int failures;

#define CHECK_IS(what, is, should)                                                                           \
	do {                                                                                                 \
		auto have = (is);                                                                            \
		decltype(have) want = (should);                                                              \
		if (have != want) {                                                                          \
			failures++;                                                                          \
			printf("not ok: %s: %s is %s, not %s\n", what, #is, std::to_string(have).c_str(),    \
			       std::to_string(want).c_str());                                                \
		}                                                                                            \
	} while (0)

// Writes of 4 KiB at these places, then a look at any time.
class Trial {
    public:
	explicit Trial(const char *tracker, u64 bytes = kTiB)
	{
		Times times;
		if (!strcmp(tracker, "classic"))
			tracker_ = make_classic(engine_, times, bytes);
		else if (!strcmp(tracker, "intree"))
			tracker_ = make_intree(engine_, times, bytes);
		else
			tracker_ = make_llbitmap(engine_, times, bytes, -1);
		tracker_->start();
		begin_ = engine_.now_us();
		tracker_->feed([](Arrival *) { return false; });
	}
	void write(double at_s, u64 byte)
	{
		auto arrive = [](void *object, u64 sector) {
			auto *t = static_cast<Trial *>(object);
			t->tracker_->arrive({t->engine_.now_us(), sector, 8});
		};
		engine_.at(begin_ + u64(at_s * kSecond), arrive, this, byte / 512);
	}
	u64 chunks_at(double s)
	{
		engine_.run(begin_ + u64(s * kSecond), tracker_.get());
		return tracker_->resync_bytes() / tracker_->chunk_bytes();
	}
	u64 waited() const { return tracker_->counts().waited; }
	u64 waited_us() const { return tracker_->counts().waited_us; }
	u64 writes() const { return tracker_->counts().bitmap_writes; }
	u64 chunk() const { return tracker_->chunk_bytes(); }
	std::string complaint() { return tracker_->complaint(); }

    private:
	Engine engine_;
	std::unique_ptr<Tracker> tracker_;
	u64 begin_ = 0;
};

void chunk_sizes()
{
	const char *what = "chunk sizes";
	CHECK_IS(what, classic_chunk_bytes(kTiB), 64 * kMiB);
	CHECK_IS(what, classic_chunk_bytes(16 * kTiB), 64 * kMiB);
	CHECK_IS(what, classic_chunk_bytes(64 * kTiB), 128 * kMiB);
	CHECK_IS(what, intree_chunk_bytes(kTiB), 8 * kMiB);
	CHECK_IS(what, intree_chunk_bytes(16 * kTiB), 128 * kMiB);
	CHECK_IS(what, intree_chunk_bytes(16 * kTiB + 1), 256 * kMiB);
	CHECK_IS(what, intree_chunk_bytes(64 * kTiB), 512 * kMiB);
}

// Set at once; 2 to 1, 1 to 0, and to the disk in the third pass, if no unplug comes before.
void classic_passes()
{
	const char *what = "classic, a lone write";
	Trial t{"classic"};
	t.write(1, 5 * 64 * kMiB);
	t.write(2, 5 * 64 * kMiB + 8192); // the bit is there: no wait
	CHECK_IS(what, t.chunks_at(1.001), 0u); // 2 ms
	CHECK_IS(what, t.chunks_at(1.003), 1u);
	CHECK_IS(what, t.chunks_at(14), 1u);
	CHECK_IS(what, t.waited(), 1u);
	CHECK_IS(what, t.chunks_at(21), 0u);
	CHECK_IS(what, t.writes(), 2u);

	what = "classic, a clear that goes along with a set";
	Trial u{"classic"};
	u.write(1, 0);
	u.write(10.5, 64 * kMiB); // after the second pass, in the same page
	CHECK_IS(what, u.chunks_at(10.6), 1u);
	CHECK_IS(what, u.waited(), 2u);

	what = "classic, a chunk that is written again";
	Trial v{"classic"};
	for (double at = 1; at < 40; at++)
		v.write(at, 0);
	CHECK_IS(what, v.chunks_at(40), 1u);
	CHECK_IS(what, v.writes(), 1u);
}

void intree_infects()
{
	const char *what = "in-tree";
	Trial t{"intree"};
	const u64 c = t.chunk();
	t.write(1, 3000 * c);
	t.write(2, 3000 * c + 4096);
	CHECK_IS(what, t.chunks_at(1.001), 0u);
	CHECK_IS(what, t.chunks_at(3), 1u);
	t.write(4, 3001 * c); // the second chunk of its block
	CHECK_IS(what, t.chunks_at(5), 512u);
	t.write(6, 3002 * c); // is dirty by that
	CHECK_IS(what, t.chunks_at(7), 512u);
	CHECK_IS(what, t.waited(), 2u);
	CHECK_IS(what, t.chunks_at(100), 512u); // clean in memory only
	t.write(101, 3002 * c);
	CHECK_IS(what, t.chunks_at(102), 1u);
	CHECK_IS(what, t.writes(), 3u);
	// a page that is written to is not cleaned
	for (double at = 103; at < 200; at++)
		t.write(at, 3003 * c);
	CHECK_IS(what, t.chunks_at(200), 512u);
}

void llbitmap_is_real()
{
	const char *what = "llbitmap";
	Trial t{"llbitmap"};
	t.write(1, 5 * t.chunk());
	CHECK_IS(what, t.chunks_at(1.001), 0u); // not before the 2 ms are over
	CHECK_IS(what, t.chunks_at(1.003) >= 1, true);
	CHECK_IS(what, t.waited(), 1u);
	t.write(1.5, 5 * t.chunk());
	for (u64 i = 0; i < 50; i++)
		t.write(1.6, (i * 37 + 1000) * t.chunk());
	CHECK_IS(what, t.chunks_at(2) >= 51, true);
	CHECK_IS(what, t.waited(), 51u);
	if (!t.complaint().empty()) {
		failures++;
		printf("not ok: %s: %s\n", what, t.complaint().c_str());
	}
	CHECK_IS(what, t.chunks_at(150), 0u);
}

// Who needs the round that runs waits for that, and not for what came meanwhile.
void a_round_ends()
{
	const char *what = "llbitmap, two first touches at once";
	Trial t{"llbitmap"};
	t.write(1, 5 * t.chunk());
	t.write(1.001, (5 + 3 * 4096) * t.chunk()); // another block, farther on
	CHECK_IS(what, t.chunks_at(2) >= 2, true);
	CHECK_IS(what, t.waited(), 2u);
	CHECK_IS(what, t.waited_us() < 5500, true); // 2 ms, and 1 + 2
}

// Two that wait for each other's time, and one that comes in between.
void fibers()
{
	const char *what = "engine";
	struct State {
		Engine engine;
		std::string seen;
	} s;
	auto note = [](void *object, u64 c) {
		auto *st = static_cast<State *>(object);
		st->seen += char(c);
		if (c == 'a' || c == 'b') {
			st->engine.sleep(c == 'a' ? 30 : 10);
			st->seen += char(c - 'a' + 'A');
		}
	};
	s.engine.at(10, note, &s, 'a');
	s.engine.at(15, note, &s, 'b');
	s.engine.at(25, note, &s, 'c');
	s.engine.at(25, note, &s, 'd');
	s.engine.at(50, note, &s, 'e');
	s.engine.run(50, nullptr);
	CHECK_IS(what, s.seen == "abcdBA", true);
	CHECK_IS(what, s.engine.parked(), 0u);
	CHECK_IS(what, s.engine.now_us(), 50u);
	s.engine.run(51, nullptr);
	CHECK_IS(what, s.seen.back() == 'e', true);
}

void loads_are_as_told()
{
	struct {
		const char *name;
		double per_s, mb_per_s;
	} const told[] = {
		{"a50", 50, 0.2},	  {"a2000", 2000, 8.2}, {"b_zipf", 500, 4.1},	 {"c_seq", 381, 200},
		{"d_4streams", 381, 200}, {"f_log", 305, 20},	{"g_burst", 83.3, 0.34},
	};
	for (const auto &one : told) {
		const u64 device = 2 * kTiB / 512;
		auto a = Load::make(one.name, device, 3), b = Load::make(one.name, device, 3);
		auto other = Load::make(one.name, device, 4);
		Arrival x, y, z;
		double n = 0, sectors = 0;
		u64 last = 0, outside = 0, differ = 0, backward = 0, same = 0;
		while (a->next(&x) && b->next(&y) && other->next(&z) && x.at_us < 240 * kSecond) {
			n++, sectors += x.sectors;
			differ += x.sector != y.sector || x.at_us != y.at_us;
			outside += x.sector + x.sectors > device || x.sector % 8;
			backward += x.at_us < last;
			same += x.at_us == z.at_us && x.sector == z.sector;
			last = x.at_us;
		}
		CHECK_IS(one.name, differ + outside + backward, 0u);
		CHECK_IS(one.name, double(same) < n / 100, true); // another seed
		CHECK_IS(one.name, n > 0.97 * 240 * one.per_s && n < 1.03 * 240 * one.per_s, true);
		double mb = sectors * 512 / 1e6 / 240;
		CHECK_IS(one.name, mb > 0.95 * one.mb_per_s && mb < 1.05 * one.mb_per_s, true);
	}
}

// The same, twice: to the byte. Another seed: about the same.
void repeatable()
{
	const char *what = "llbitmap, a50, twice";
	Job job;
	job.seconds = 60;
	Result a = run_job(job), b = run_job(job);
	CHECK_IS(what, u64(a.mean), u64(b.mean));
	CHECK_IS(what, a.bitmap_writes_per_s, b.bitmap_writes_per_s);
	job.seed = 2;
	Result c = run_job(job);
	CHECK_IS(what, c.mean == a.mean, false);
	CHECK_IS(what, c.mean < 1.2 * a.mean && c.mean > 0.8 * a.mean, true);
}

} // namespace

int self_test()
{
	chunk_sizes();
	fibers();
	classic_passes();
	intree_infects();
	llbitmap_is_real();
	a_round_ends();
	loads_are_as_told();
	repeatable();
	printf("crash-cost: self-test: %s\n", failures ? "failed" : "ok");
	return failures ? 1 : 0;
}
