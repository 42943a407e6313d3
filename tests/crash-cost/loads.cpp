// SPDX-License-Identifier: GPL-2.0
#include "loads.hpp"

#include <algorithm>
#include <cmath>

namespace {

constexpr u64 kSecond = 1000000;
constexpr u64 kMiB = 2048; // sectors
constexpr u64 kGiB = 1024 * kMiB;

// Ranks 0 .. n-1, the k-th with a weight of 1/(k+1)^s: rejection-inversion (W. Hörmann,
// G. Derflinger 1996), as n is too large for a table.
class Zipf {
    public:
	Zipf(u64 n, double s)
		: n_{double(n)}
		, s_{s}
		, first_{h(1.5) - 1}
		, last_{h(n_ + 0.5)}
		, always_{2 - inverse(h(2.5) - std::pow(2, -s))}
	{}
	u64 draw(Rng &rng) const
	{
		for (;;) {
			double u = last_ + rng.unit() * (first_ - last_);
			double x = inverse(u);
			double k = std::floor(x + 0.5);
			k = k < 1 ? 1 : k > n_ ? n_ : k;
			if (k - x <= always_ || u >= h(k + 0.5) - std::pow(k, -s_))
				return u64(k) - 1;
		}
	}

    private:
	double h(double x) const { return (std::pow(x, 1 - s_) - 1) / (1 - s_); }
	double inverse(double y) const { return std::pow(1 + y * (1 - s_), 1 / (1 - s_)); }
	double n_, s_, first_, last_, always_;
};

// One sort of writes; a load is one or several.
struct Part {
	virtual ~Part() = default;
	virtual void place(Rng &rng, Arrival *out) = 0;

	Rng rng{0};
	double per_s = 0;
	bool even = false; // evenly spaced; else Poisson
	u64 on_us = 0, period_us = 0; // only in the first on_us of each period; 0: always
	double at_us = 0;
	Arrival now = {};

	void step()
	{
		double gap = double(kSecond) / per_s;
		at_us += even ? gap : -std::log(rng.unit()) * gap;
		if (period_us) { // time passes only while it is on
			u64 at = u64(at_us);
			now.at_us = at / on_us * period_us + at % on_us;
		} else {
			now.at_us = u64(at_us);
		}
		place(rng, &now);
	}
};

struct Random : Part {
	u64 from, size;
	u32 sectors;
	void place(Rng &r, Arrival *out) override
	{
		out->sector = from + r.below(size / sectors) * sectors;
		out->sectors = sectors;
	}
};

// The popular blocks lie anywhere in the region.
struct Popular : Part {
	u64 from, size, salt;
	u32 sectors;
	std::unique_ptr<Zipf> zipf;
	void place(Rng &r, Arrival *out) override
	{
		u64 blocks = size / sectors;
		u64 where = u64((static_cast<unsigned __int128>(mix(zipf->draw(r) ^ salt)) * blocks) >> 64);
		out->sector = from + where * sectors;
		out->sectors = sectors;
	}
};

// On and on, and from the region's begin again.
struct Stream : Part {
	u64 from, size, next = 0;
	u32 sectors;
	void place(Rng &, Arrival *out) override
	{
		if (next + sectors > size)
			next = 0;
		out->sector = from + next;
		out->sectors = sectors;
		next += sectors;
	}
};

// New files: each goes near where the last one of its group went.
struct Files : Part {
	u64 group_sectors = 0;
	std::vector<u64> ends; // of each group
	u32 sectors = 0;
	u64 spread = 0;
	void place(Rng &r, Arrival *out) override
	{
		u64 group = r.below(ends.size());
		u64 &end = ends[group];
		out->sector = group * group_sectors +
			      (end + r.below(spread) / sectors * sectors) % (group_sectors - sectors);
		out->sectors = sectors;
		end = (end + sectors) % (group_sectors - spread);
	}
};

class Parts : public Load {
    public:
	explicit Parts(u64 seed)
		: seed_{seed}
	{}
	template <class T>
	T &add(double per_s)
	{
		auto part = std::make_unique<T>();
		part->rng = Rng{mix(seed_ + 1000 * (parts_.size() + 1))};
		part->per_s = per_s;
		T &ref = *part;
		parts_.push_back(std::move(part));
		return ref;
	}
	Random &random(double per_s, u64 from, u64 size, u32 sectors)
	{
		Random &p = add<Random>(per_s);
		p.from = from, p.size = size, p.sectors = sectors;
		return p;
	}
	Popular &popular(double per_s, u64 from, u64 size, u32 sectors, double s)
	{
		Popular &p = add<Popular>(per_s);
		p.from = from, p.size = size, p.sectors = sectors;
		p.salt = p.rng.next();
		p.zipf = std::make_unique<Zipf>(size / sectors, s);
		return p;
	}
	// bytes_per_s of 1000000, in writes of so many sectors
	Stream &stream(double mb_per_s, u64 from, u64 size, u32 sectors)
	{
		Stream &p = add<Stream>(mb_per_s * 1e6 / (sectors * 512.0));
		p.from = from, p.size = size, p.sectors = sectors;
		p.even = true;
		// streams of one speed do not march in step, nor over the same borders of chunks
		p.at_us = p.rng.unit() * 1000;
		p.next = p.rng.below(std::min(kGiB, size) / sectors) * sectors;
		return p;
	}
	void begin()
	{
		for (auto &p : parts_)
			p->step();
	}
	bool next(Arrival *out) override
	{
		Part *first = parts_[0].get();
		for (auto &p : parts_) {
			if (p->now.at_us < first->now.at_us)
				first = p.get();
		}
		*out = first->now;
		first->step();
		return true;
	}

    private:
	u64 seed_;
	std::vector<std::unique_ptr<Part>> parts_;
};

u64 share(u64 device, double part)
{
	return u64(double(device) * part) / 4096 * 4096;
}

// Twenty guests: each with a journal, some pages that it writes all the time, some that it
// seldom does; and one of them is backed up, or updates itself, for 20 s of each two minutes.
void vm_host(Parts &p, u64 device)
{
	constexpr u64 kGuests = 20;
	const u64 image = share(device, 1.0 / 25);
	for (u64 g = 0; g < kGuests; g++) {
		u64 at = g * image;
		p.stream(0.25, at + image / 8, 128 * kMiB, 64);
		p.popular(6, at + image / 4, 4 * kGiB, 8, 1.05);
		p.random(1, at, image, 8);
	}
	Stream &s = p.stream(60, 21 * image, 2 * image, 1024);
	s.on_us = 20 * kSecond, s.period_us = 120 * kSecond;
}

// Sixty deliveries per second: a file in one of 64 groups, its group's metadata, the index of
// a mailbox, and the file system's journal.
void mail(Parts &p, u64 device)
{
	constexpr u64 kGroups = 64;
	const u64 group = share(device, 1.0 / 70);
	Files &f = p.add<Files>(60);
	f.group_sectors = group, f.sectors = 32, f.spread = 256 * kMiB;
	f.ends.resize(kGroups);
	for (u64 g = 0; g < kGroups; g++) {
		f.ends[g] = mix(g) % (group - 512 * kMiB);
		p.random(60.0 / kGroups, g * group, 64 * kMiB, 8);
	}
	p.popular(60, 66 * group, 16 * kGiB, 16, 0.9);
	p.stream(2, 69 * group, 256 * kMiB, 128);
}

} // namespace

const std::vector<LoadInfo> &loads()
{
	static const std::vector<LoadInfo> all = {
		{"a10", "sparse, 10/s", "sparse", "10/s", Kind::Sparse, false},
		{"a50", "sparse, 50/s", "sparse", "50/s", Kind::Sparse, false},
		{"a200", "sparse, 200/s", "sparse", "200/s", Kind::Sparse, false},
		{"a2000", "sparse, 2000/s", "sparse", "2000/s", Kind::Sparse, false},
		{"b_zipf", "OLTP, zipf, 500/s", "OLTP", "500/s", Kind::Other, false},
		{"c_seq", "one stream, 200 MB/s", "one", "stream", Kind::Stream, false},
		{"d_4streams", "four streams, 50 MB/s each", "four", "streams", Kind::Stream, false},
		{"e_file", "file server", "file", "server", Kind::Other, false},
		{"f_log", "log, 20 MB/s", "log", "20 MB/s", Kind::Stream, false},
		{"g_burst", "1000/s for 5 s each minute", "5-s bursts", "1000/s", Kind::Burst, false},
		{"k_vmhost", "VM host, 20 guests", "VM host", "20 guests", Kind::Other, false},
		{"m_mail", "mail server, 60 mails/s", "mail", "server", Kind::Other, false},
		{"hot_log", "log, 20 MB/s, round and round in 256 MiB", "", "", Kind::Stream, true},
		{"hot_oltp", "500/s over 1 GiB", "", "", Kind::Other, true},
		{"hot_streams", "four streams, each round and round in 512 MiB", "", "", Kind::Stream, true},
	};
	return all;
}

const LoadInfo *load_named(const std::string &name)
{
	for (const LoadInfo &l : loads()) {
		if (name == l.name)
			return &l;
	}
	return nullptr;
}

std::unique_ptr<Load> Load::make(const std::string &name, u64 device, u64 seed)
{
	auto p = std::make_unique<Parts>(mix(seed));

	if (name[0] == 'a') {
		p->random(std::stod(name.substr(1)), 0, device, 8);
	} else if (name == "b_zipf") {
		p->popular(500, share(device, 0.3), share(device, 0.1), 16, 0.99);
	} else if (name == "c_seq") {
		p->stream(200, 0, device, 1024);
	} else if (name == "d_4streams") {
		for (u32 i = 0; i < 4; i++)
			p->stream(50, share(device, (i + 0.1) / 4), share(device, 0.2), 1024);
	} else if (name == "e_file") {
		p->stream(50, share(device, 0.1), share(device, 0.5), 1024);
		p->stream(10, share(device, 0.7), 128 * kMiB, 128);
		p->random(100, 0, device, 8);
	} else if (name == "f_log") {
		p->stream(20, share(device, 0.2), share(device, 0.2), 128);
	} else if (name == "g_burst") {
		Random &r = p->random(1000, 0, device, 8);
		r.on_us = 5 * kSecond, r.period_us = 60 * kSecond;
	} else if (name == "k_vmhost") {
		vm_host(*p, device);
	} else if (name == "m_mail") {
		mail(*p, device);
	} else if (name == "hot_log") {
		p->stream(20, share(device, 0.2), kGiB / 4, 128);
	} else if (name == "hot_oltp") {
		p->random(500, share(device, 0.3), kGiB, 16);
	} else if (name == "hot_streams") {
		for (u32 i = 0; i < 4; i++)
			p->stream(50, share(device, (i + 0.1) / 4), kGiB / 2, 1024);
	} else {
		return nullptr;
	}
	p->begin();
	return p;
}
