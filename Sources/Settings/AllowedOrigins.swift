// The setting `origins`: which pages of other hosts may call. A browser's `Origin` is compared letter by
// letter, so an entry in any other form than a browser's would never match, and is refused at the start.

package enum AllowedOrigins {
    /// Why an entry could never match, naming the remedy; `nil` for a good one and for `*`.
    package static func fault(_ text: String) -> String? {
        if text == "*" { return nil }
        // Do not repeat the entry: it may contain a password.
        guard !text.contains("@") else { return "an entry has credentials; write only scheme, host and port" }
        if text == "null" { return "'null' is no origin to trust; only * includes it" }
        guard let separator = text.firstRange(of: "://"), separator.lowerBound > text.startIndex else {
            return "'\(text)' has no scheme; write https://\(text.isEmpty ? "a.example" : text)"
        }
        let scheme = text[..<separator.lowerBound]
        let place = text[separator.upperBound...]
        guard scheme.utf8.allSatisfy(isSchemeByte) else {
            return "'\(text)' is not in lower case, as browsers write origins"
        }
        guard !place.contains(where: { $0 == "/" || $0 == "?" || $0 == "#" }) else {
            return "'\(text)' has a path; write only scheme, host and port"
        }
        guard !place.contains("*") else {
            return "'\(text)' has a wildcard; name each origin, or write * for all"
        }
        guard !place.contains(where: \.isUppercase) else {
            return "'\(text)' is not in lower case, as browsers write origins"
        }
        let isIPv6Literal = place.hasPrefix("[")
        let end =
            isIPv6Literal ? place.firstIndex(of: "]").map(place.index(after:)) : place.firstIndex(of: ":")
        guard !isIPv6Literal || end != nil else {
            return "'\(text)' has no valid host; an IPv6 address ends with ]"
        }
        let host = place[..<(end ?? place.endIndex)]
        let port = place[(end ?? place.endIndex)...]
        guard host.count > (isIPv6Literal ? 2 : 0), host.utf8.allSatisfy(isHostByte) else {
            return "'\(text)' has no valid host; write it as browsers do (punycode for other letters)"
        }
        let number = UInt16(port.dropFirst())
        guard port.isEmpty || number.map({ $0 > 0 && port == ":\($0)" }) == true else {
            return "'\(text)' has no valid port"
        }
        let defaults = ["http": ":80", "https": ":443"]
        guard port.isEmpty || defaults[String(scheme)] != String(port) else {
            return "'\(text)' has the default port, which browsers leave out"
        }
        return nil
    }

    private static func isSchemeByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "+"),
            UInt8(ascii: "-"), UInt8(ascii: "."):
            true
        default: false
        }
    }

    private static func isHostByte(_ byte: UInt8) -> Bool {
        isSchemeByte(byte) && byte != UInt8(ascii: "+")
            || [UInt8(ascii: "_"), UInt8(ascii: "["), UInt8(ascii: "]"), UInt8(ascii: ":")].contains(byte)
    }
}
