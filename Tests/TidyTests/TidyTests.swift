// The house rules that a program can check.

import Foundation
import Testing

@Suite struct TidyTests {
    /// What each module may import of ours; modules not listed may import any.
    private static let allowed: [String: Set<String>] = [
        "AuctionEvents": [], "Wire": [],
        "LiveProtocol": ["AuctionEvents", "Synchronization", "Wire"],
        "Fanout": ["DequeModule", "LiveProtocol"],
        "Bidding": ["AuctionEvents"],
        "Reactor": ["CLinux", "Glibc", "Synchronization"],
        "Compression": ["CZlib"],
        "TransportSecurity": ["CLinux", "COpenSSL", "Glibc", "Reactor"],
        "RedisLink": [
            "CLinux", "Glibc", "CHiredis", "COpenSSL", "Dispatch", "Reactor", "Synchronization",
            "TransportSecurity", "DequeModule", "Wire",
        ],
        "Tokens": ["COpenSSL", "Foundation", "Synchronization"],
        "Telemetry": ["AuctionEvents", "CLinux", "Dispatch", "Glibc", "Logging", "Synchronization"],
        "Settings": ["Foundation", "Yams"],
        "AuctionStore": [
            "AuctionEvents", "Bidding", "CLibPQ", "Dispatch", "Foundation", "Glibc", "Synchronization",
        ],
    ]

    @Test("modules import only what lies below them")
    func imports() {
        #expect(SourceFile.all.count > 50, "the sources were not found")
        for file in SourceFile.all where !file.path.hasPrefix("Tests") {
            guard let allowed = Self.allowed[file.module] else { continue }
            for line in file.lines {
                let words = line.split(separator: " ")
                guard let index = words.firstIndex(of: "import"), index <= 1, words.count == index + 2 else {
                    continue
                }
                #expect(allowed.contains(String(words[index + 1])), "\(file.path): \(line)")
            }
        }
    }

    private static let textMark = String(repeating: "\"", count: 3)

    @Test("files stay within 500 lines of 110 columns and say what they are")
    func size() {
        for file in SourceFile.all {
            #expect(file.lines.count <= 500, "\(file.path) has \(file.lines.count) lines")
            // A literal may be longer: cut in two it would be harder to find.
            var isInText = false
            for (number, line) in file.lines.enumerated() {
                let text = line.trimmingCharacters(in: .whitespaces)
                if text.hasPrefix(Self.textMark) || text.hasSuffix(Self.textMark) { isInText.toggle() }
                let limit = isInText || line.contains("\"") ? 130 : 110
                if line.count > limit {
                    Issue.record("\(file.path):\(number + 1) has \(line.count) columns")
                }
            }
            guard !file.path.hasPrefix("Tests") else { continue }
            let opensWithProse = file.text.hasPrefix("// ")
            #expect(opensWithProse, "\(file.path) does not open with what it is")
        }
    }

    @Test("unsafe code gives its reason, and no work is left as a note")
    func notes() {
        let unsafe = [
            "UnsafeMutable", "UnsafeRaw", "UnsafePointer", "UnsafeBufferPointer", "Unmanaged",
            "OpaquePointer",
            "nonisolated(unsafe)",
        ]
        let marks = ["TO" + "DO", "FIX" + "ME", "XX" + "X"]
        for file in SourceFile.all {
            let found = (marks + ["@unchecked" + " Sendable"]).filter(file.text.contains)
            #expect(found.isEmpty, "\(file.path)")
            guard !file.path.hasPrefix("Tests"), unsafe.contains(where: file.text.contains) else { continue }
            let hasReason = file.text.contains("SAFETY:")
            #expect(hasReason, "\(file.path) has unsafe code without a SAFETY comment")
        }
    }

    @Test("sleeps are no synchronisation: tests have none")
    func sleeps() {
        for file in SourceFile.all where file.path.hasPrefix("Tests") {
            let sleeps = file.text.contains("sleep" + "(")
            #expect(!sleeps, "\(file.path)")
        }
    }
}
