// SPDX-License-Identifier: GPL-2.0
#include "tool/device.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <linux/fs.h>
#include <memory>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool/error.hpp"

namespace tool {

namespace {

constexpr u64 kPage = 4096;
constexpr u64 kPiece = 1 << 20;

[[noreturn]] void fail(const std::string &path, const std::string &what)
{
	throw Error(kUnreadable, path + ": " + what);
}

// What O_DIRECT asks of memory.
std::unique_ptr<u8, decltype(&free)> aligned(u64 bytes)
{
	std::unique_ptr<u8, decltype(&free)> buf(static_cast<u8 *>(std::aligned_alloc(kPage, bytes)), free);
	if (!buf)
		throw std::bad_alloc();
	return buf;
}

u64 up(u64 value, u64 step)
{
	return base::round_up(value, step);
}

} // namespace

Device::Device(const std::string &path, Use use)
	: path_(path)
{
	struct stat st;
	if (stat(path.c_str(), &st))
		fail(path, strerror(errno));
	bool block = S_ISBLK(st.st_mode);
	if (!block && !S_ISREG(st.st_mode))
		fail(path, "neither a block device nor a file");
	// A file that nobody may write is left alone by root, too.
	bool read_only = use != Use::Look && !block && !(st.st_mode & 0222);
	if (use != Use::Look && access(path.c_str(), W_OK) && (errno == EROFS || errno == EACCES))
		read_only = true;
	if (read_only)
		refuse(path + ": is read-only");

	const bool writes = use == Use::Write || use == Use::Beside;
	const bool alone = use == Use::Exclusive || use == Use::Write;
	int flags = (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC;
	if (block)
		flags |= O_DIRECT; // a cached page is not what md wrote
	if (block && alone)
		flags |= O_EXCL;
	fd_ = open(path.c_str(), flags);
	if (fd_ < 0 && errno == EBUSY)
		refuse(path + ": in use; stop the array first (mdadm --stop)");
	if (fd_ < 0 && writes && (errno == EACCES || errno == EPERM || errno == EROFS))
		refuse(path + ": cannot be written to: " + strerror(errno));
	if (fd_ < 0)
		fail(path, strerror(errno));
	struct stat opened;
	if (fstat(fd_, &opened) || opened.st_mode != st.st_mode || opened.st_rdev != st.st_rdev ||
	    opened.st_dev != st.st_dev || opened.st_ino != st.st_ino)
		fail(path, "was replaced while it was opened");
	id_ = block ? std::pair<u64, u64>(0, st.st_rdev) : std::pair<u64, u64>(st.st_dev + 1, st.st_ino);
	if (block) {
		int size = 0;
		if (ioctl(fd_, BLKGETSIZE64, &bytes_) || ioctl(fd_, BLKSSZGET, &size))
			fail(path, strerror(errno));
		block_ = u32(size);
		// Opening it for writing works; only the writes would fail.
		int locked = 0;
		if (use != Use::Look && !ioctl(fd_, BLKROGET, &locked) && locked)
			refuse(path + ": is read-only (blockdev --getro)");
		return;
	}
	bytes_ = u64(opened.st_size);
	// A loop device over the file has it open, and then nobody gets a lease; for
	// reading: not if it is open for writing.
	if (alone) {
		if (!fcntl(fd_, F_SETLEASE, use == Use::Write ? F_WRLCK : F_RDLCK))
			fcntl(fd_, F_SETLEASE, F_UNLCK);
		else if (errno == EAGAIN)
			refuse(path + ": the file is open elsewhere (a loop device?); stop the array first");
	}
}

Device::Device(Device &&other) noexcept
	: path_(std::move(other.path_))
	, fd_(std::exchange(other.fd_, -1))
	, bytes_(other.bytes_)
	, block_(other.block_)
	, id_(other.id_)
{}

Device &Device::operator=(Device &&other) noexcept
{
	std::swap(path_, other.path_);
	std::swap(fd_, other.fd_);
	std::swap(bytes_, other.bytes_);
	std::swap(block_, other.block_);
	std::swap(id_, other.id_);
	return *this;
}

Device::~Device()
{
	if (fd_ >= 0)
		close(fd_);
}

bool Device::holds(s64 sector, u64 count) const
{
	return sector >= 0 && u64(sector) <= sectors() && count <= sectors() - u64(sector);
}

void Device::each_piece(u64 offset, u64 length, const std::function<void(u64 done, const Bytes &)> &f) const
{
	for (u64 done = 0; done < length; done += kPiece)
		f(done, read(offset + done, std::min(kPiece, length - done)));
}

Bytes Device::read(u64 offset, u64 length) const
{
	u64 start = offset / block_ * block_;
	u64 end = up(offset + length, block_);
	if (end < offset || end > up(bytes_, block_))
		fail(path_, "ends before byte " + std::to_string(offset + length));
	auto buf = aligned(up(end - start, kPage));
	u64 done = 0;
	while (start + done < end) {
		ssize_t got = pread(fd_, buf.get() + done, end - start - done, off_t(start + done));
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			fail(path_, "reading byte " + std::to_string(start + done) + ": " + strerror(errno));
		if (got == 0)
			break; // a file need not end at a block's end
		done += u64(got);
	}
	if (start + done < offset + length)
		fail(path_, "ends before byte " + std::to_string(offset + length));
	return Bytes(buf.get() + (offset - start), buf.get() + (offset - start) + length);
}

std::string Device::write_fault(u64 offset, u64 length) const
{
	// A file would just grow, and a block that a file's end cuts is no whole one.
	if (offset > bytes_ || length > bytes_ - offset || up(offset + length, block_) > bytes_)
		return path_ + ": ends before byte " + std::to_string(offset + length);
	return {};
}

void Device::write(u64 offset, const Bytes &data)
{
	if (std::string fault = write_fault(offset, data.size()); !fault.empty())
		throw Error(kUnreadable, fault);
	u64 start = offset / block_ * block_;
	u64 end = up(offset + data.size(), block_);
	if (start != offset || end != offset + data.size()) {
		Bytes whole = read(start, end - start);
		std::copy(data.begin(), data.end(), whole.begin() + s64(offset - start));
		write(start, whole);
		return;
	}
	auto buf = aligned(up(data.size(), kPage));
	memcpy(buf.get(), data.data(), data.size());
	u64 done = 0;
	while (done < data.size()) {
		ssize_t put = pwrite(fd_, buf.get() + done, data.size() - done, off_t(offset + done));
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			fail(path_, "writing byte " + std::to_string(offset + done) + ": " +
					    strerror(put ? errno : EIO));
		done += u64(put);
	}
}

void Device::sync()
{
	if (fsync(fd_))
		fail(path_, std::string("fsync: ") + strerror(errno));
}

} // namespace tool
