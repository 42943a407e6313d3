// SPDX-License-Identifier: GPL-2.0
// A member: a block device (past its page cache) or an image file. Offsets and
// lengths are bytes, in any alignment.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/types.hpp"

namespace tool {

using Bytes = std::vector<u8>;

class Device {
    public:
	enum class Use { Look, Exclusive, Write, Beside };

	// Exclusive and Write: refused if anybody else uses it, a running array for one,
	// and if it is read-only: a conversion is not to find out half-way. Exclusive
	// opens it for reading, but asks the same. Beside: for writing where others do, too.
	Device(const std::string &path, Use use);
	Device(Device &&other) noexcept;
	Device &operator=(Device &&other) noexcept;
	~Device();

	const std::string &path() const { return path_; }
	u64 bytes() const { return bytes_; }
	u32 logical_block() const { return block_; }
	bool same_as(const Device &other) const { return id_ == other.id_; }

	u64 sectors() const { return bytes_ / 512; }
	// Do these sectors lie on it? Any numbers may be asked for.
	bool holds(s64 sector, u64 count) const;

	// Throws Error, kUnreadable. What is read is held in memory: the caller bounds it.
	Bytes read(u64 offset, u64 length) const;
	// The same, a MiB at a time.
	void each_piece(u64 offset, u64 length, const std::function<void(u64 done, const Bytes &)> &f) const;
	// Why data of that length cannot be written there; empty: it can be tried.
	std::string write_fault(u64 offset, u64 length) const;
	void write(u64 offset, const Bytes &data);
	void sync();

    private:
	std::string path_;
	int fd_ = -1;
	u64 bytes_ = 0;
	u32 block_ = 512;
	std::pair<u64, u64> id_;
};

} // namespace tool
