// Redis Cluster's hash slots: where a key or a sharded channel lives. Pure. Source: the Redis Cluster
// specification, "Key distribution model" and "Hash tags".

package enum RedisSlots {
    package static let count = 16_384

    /// The slot of a key or of a sharded channel, 0 ..< ``count``.
    package static func slot(of name: String) -> Int {
        slot(of: Array(name.utf8)[...])
    }

    package static func slot(of name: ArraySlice<UInt8>) -> Int {
        Int(crc16(tag(of: name)) % UInt16(count))
    }

    /// Returns the part that is hashed: the text between the first `{` and the next `}`, or the whole name if
    /// there is no such text.
    private static func tag(of name: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        guard let open = name.firstIndex(of: UInt8(ascii: "{")) else { return name }
        let rest = name[(open + 1)...]
        guard let close = rest.firstIndex(of: UInt8(ascii: "}")), close > open + 1 else { return name }
        return rest[..<close]
    }

    /// A short hash tag whose slot satisfies `isServed`; `nil` when no slot does.
    package static func tag(where isServed: (Int) -> Bool) -> String? {
        for (slot, tag) in tags.enumerated() where isServed(slot) { return tag }
        return nil
    }

    /// For each slot, the smallest number whose digits hash to it.
    private static let tags: [String] = {
        var tags = [String](repeating: "", count: count)
        var (number, missing) = (0, count)
        while missing > 0 {
            let text = "\(number)"
            let slot = slot(of: text)
            if tags[slot].isEmpty {
                tags[slot] = text
                missing -= 1
            }
            number += 1
        }
        return tags
    }()

    /// CRC-16/XMODEM: polynomial 0x1021, initial value 0.
    private static func crc16(_ bytes: ArraySlice<UInt8>) -> UInt16 {
        bytes.reduce(0) { crc, byte in crc << 8 ^ table[Int(UInt8(crc >> 8) ^ byte)] }
    }

    private static let table: [UInt16] = (0..<256).map { byte in
        (0..<8).reduce(UInt16(byte) << 8) { crc, _ in crc & 0x8000 != 0 ? crc << 1 ^ 0x1021 : crc << 1 }
    }
}
