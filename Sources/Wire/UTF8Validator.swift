// Checks UTF-8 as it arrives, so that a text message is refused at its first wrong byte and not at its end
// (RFC 6455, 8.1). The ranges are those of the Unicode Standard's table 3-7: no overlong form, no surrogate,
// nothing above U+10FFFF.

struct UTF8Validator {
    /// Bytes that the character under way still needs.
    private var needed: UInt8 = 0
    /// What the next of them may be.
    private var allowed: ClosedRange<UInt8> = 0x80...0xBF

    /// Whether the bytes so far end with a whole character.
    var isBetweenCharacters: Bool { needed == 0 }

    // SAFETY: `bytes` is the caller's and is read during the call.
    /// Takes the next bytes; false when they cannot be part of UTF-8.
    mutating func take(_ bytes: UnsafeRawBufferPointer) -> Bool {
        for byte in bytes {
            if needed > 0 {
                guard allowed.contains(byte) else { return false }
                needed -= 1
                allowed = 0x80...0xBF
            } else if byte >= 0x80 {
                guard begin(byte) else { return false }
            }
        }
        return true
    }

    private mutating func begin(_ byte: UInt8) -> Bool {
        switch byte {
        case 0xC2...0xDF: needed = 1
        case 0xE0...0xEF: needed = 2
        case 0xF0...0xF4: needed = 3
        default: return false
        }
        switch byte {
        case 0xE0: allowed = 0xA0...0xBF
        case 0xED: allowed = 0x80...0x9F
        case 0xF0: allowed = 0x90...0xBF
        case 0xF4: allowed = 0x80...0x8F
        default: break
        }
        return true
    }
}
