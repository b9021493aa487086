// The rooms of the gateway, and the arrows between them.

import Foundation
import Testing

@Suite struct HouseTests {
    /// Which rooms each folder of `Sources/Gateway` may use. Files beside the folders belong to all rooms.
    private static let arrows: [String: Set<String>] = [
        "Handover": [],
        "Connections": [],
        "Output": ["Connections"],
        "Watching": ["Output", "Connections", "Handover"],
        "Admission": ["Connections"],
        "Departures": ["Watching", "Admission", "Output", "Connections", "Handover"],
        "Requests": ["Watching", "Admission", "Admin", "Output", "Connections", "Handover"],
        "Feed": ["Handover"], "Admin": [], "Viewer": [],
        "EventLoop": [
            "Requests", "Departures", "Watching", "Admission", "Output", "Connections", "Feed", "Handover",
        ],
    ]

    @Test("a room uses only the rooms below it")
    func arrows() throws {
        let sources = SourceFile.all.filter { $0.path.hasPrefix("Sources/Gateway/") }
        let rooms = Dictionary(grouping: sources.filter { $0.folder != nil }) { $0.folder ?? "" }
        #expect(Set(rooms.keys) == Set(Self.arrows.keys))
        var owner: [String: String] = [:]
        for (room, files) in rooms {
            for name in files.flatMap(\.declaredTypes) { owner[name] = room }
        }
        #expect(owner.count > 30, "the types were not found")
        for (room, files) in rooms {
            let below = Self.arrows[room, default: []]
            for file in files {
                for word in file.codeWords {
                    guard let other = owner[word], other != room else { continue }
                    #expect(below.contains(other), "\(file.path) uses \(word) of \(other)")
                }
            }
        }
    }

    @Test("no file names a variable of another room; records are written by methods of Connections alone")
    func state() {
        let sources = SourceFile.all.filter { $0.path.hasPrefix("Sources/Gateway/") }
        var found = 0
        for room in ["Connections", "Output", "Watching", "Requests", "Admission", "Departures", "Feed"] {
            // A room spans files, so its variables cannot be private.
            let variables = sources.filter { $0.folder == room }.flatMap { file in
                file.text.matches(of: /\n    var (\w+)(?::[^{\n]*| = [^{\n]*)\n/).map { String($0.1) }
            }
            found += variables.count
            for file in sources where file.folder != room {
                let used = file.text.matches(of: /(\w+)\.(\w+)/).filter { $0.1 == room.lowercased() }.map {
                    $0.2
                }
                for name in variables {
                    #expect(!used.contains { $0 == name }, "\(file.path) names \(name) of \(room)")
                }
            }
        }
        #expect(found > 20, "the variables were not found")
        for file in sources {
            let writes = file.text.matches(
                of: /connections\[\w+\]\.[\w.]+(?: [+|-]?= |\.insert\(|\.remove\()/)
            #expect(writes.isEmpty, "\(file.path) writes a record")
        }
    }

    @Test("the slab, and so the phase of a connection, belongs to one room")
    func phases() {
        for file in SourceFile.all where file.path.hasPrefix("Sources/Gateway/") {
            let touchesSlab = file.codeWords.contains("ConnectionSlab") && file.text.contains("slab.")
            #expect(!touchesSlab || file.folder == "Connections", "\(file.path)")
        }
    }

    @Test("a test file of a module is named after a source file of it, or lies in Support")
    func mirrors() {
        let sources = Dictionary(grouping: SourceFile.all.filter { !$0.path.hasPrefix("Tests/") }) {
            $0.module
        }
        for file in SourceFile.all where file.path.hasPrefix("Tests/") && file.folder != "Support" {
            let module = file.module.replacing("Tests", with: "")
            guard !["EndToEnd", "Tidy", "TestSupport", "Support"].contains(module), module != "TestSupport",
                file.module.hasSuffix("Tests")
            else { continue }
            // The engine of the load tester is tested with what runs on it.
            let names = ((sources[module] ?? []) + (module == "LoadEngine" ? sources["LoadRun"] ?? [] : []))
                .map(\.name)
            #expect(names.contains { file.name.hasPrefix($0) }, "\(file.path)")
        }
    }

    @Test("docs/reference.md names every metric, and no other")
    func metrics() throws {
        let reference = try String(
            contentsOf: SourceFile.root.appendingPathComponent("docs/reference.md"), encoding: .utf8)
        let described = Set(reference.matches(of: /`((?:gavelcast|process)_\w+)`/).map { String($0.1) })
        let exposed = SourceFile.all.filter {
            $0.path.hasPrefix("Sources/Gateway/Admin") || $0.path == "Sources/BidAPI/BidAPIMetrics.swift"
                || $0.path == "Sources/Telemetry/ProcessMetrics.swift"
        }.flatMap { file in file.text.matches(of: /"((?:gavelcast|process)_\w+)"/).map { String($0.1) } }
        #expect(exposed.count > 50, "the metrics were not found")
        #expect(described == Set(exposed))
    }

    @Test("lines of prose in the docs have at most 120 columns")
    func prose() throws {
        let docs = SourceFile.root.appendingPathComponent("docs")
        let files = try FileManager.default.contentsOfDirectory(at: docs, includingPropertiesForKeys: nil)
        let others = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(
            SourceFile.root.appendingPathComponent)
        for file in files + others where file.pathExtension == "md" {
            let lines = try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
            for line in lines where line.count > 120 && !["|", "!", "    "].contains(where: line.hasPrefix) {
                Issue.record("\(file.lastPathComponent): \(line.prefix(60))…")
            }
        }
    }

    @Test("no function of the product is longer than 60 lines")
    func functions() {
        for file in SourceFile.all where file.path.hasPrefix("Sources/") {
            for (name, count) in file.functionLengths where count > 60 {
                Issue.record("\(file.path): \(name) has \(count) lines")
            }
        }
    }
}
