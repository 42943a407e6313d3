// SPDX-License-Identifier: GPL-2.0
// A member: a block device (past its page cache) or an image file. Offsets and
// lengths are bytes, in any alignment.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/types.hpp"

namespace tool {

using Bytes = std::vector<u8>;

class Device {
    public:
	enum class Use { Look, Exclusive, Write };

	// Exclusive and Write: fails if anybody else uses it, a running array for one.
	Device(const std::string &path, Use use);
	Device(Device &&other) noexcept;
	Device &operator=(Device &&other) noexcept;
	~Device();

	const std::string &path() const { return path_; }
	u64 bytes() const { return bytes_; }
	u32 logical_block() const { return block_; }
	bool same_as(const Device &other) const { return id_ == other.id_; }

	Bytes read(u64 offset, u64 length) const;
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
