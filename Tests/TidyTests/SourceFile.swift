// The project's Swift files, as the tidy tests read them.

import Foundation

struct SourceFile {
    let path: String
    let module: String
    let text: String
    var lines: [Substring] { text.split(separator: "\n", omittingEmptySubsequences: false) }

    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent()
        .deletingLastPathComponent()

    static let all: [SourceFile] = ["Sources", "loadtest/Sources", "Tests"].flatMap { folder in
        let base = root.appendingPathComponent(folder)
        let files = FileManager.default.enumerator(atPath: base.path)?.compactMap { $0 as? String } ?? []
        return files.filter { $0.hasSuffix(".swift") }.map { file in
            SourceFile(
                path: "\(folder)/\(file)", module: String(file.split(separator: "/")[0]),
                text: (try? String(contentsOf: base.appendingPathComponent(file), encoding: .utf8)) ?? "")
        }
    }

    /// The file's name without its ending.
    var name: String { path.split(separator: "/").last.map { String($0.dropLast(6)) } ?? "" }

    /// The folder within the module; `nil` for a file that lies directly in it.
    var folder: String? {
        let parts = path.split(separator: "/")
        guard let index = parts.firstIndex(of: Substring(module)), index + 2 < parts.count else { return nil }
        return String(parts[index + 1])
    }

    /// The lines without comments.
    private var code: [Substring] {
        lines.map { line in
            guard let comment = line.range(of: "//") else { return line }
            return line[..<comment.lowerBound]
        }
    }

    /// The words of the code: no literals, and no members of something else.
    var codeWords: Set<String> {
        let isPart = { (character: Character) in
            character.isLetter || character.isNumber || character == "_" || character == "."
        }
        return Set(
            code.flatMap { line in
                let parts = line.split(separator: "\"", omittingEmptySubsequences: false)
                let outside = parts.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)
                return outside.flatMap { part in
                    part.split { !isPart($0) }.filter { !$0.hasPrefix(".") }
                        .map { String($0.prefix { $0 != "." }) }
                }
            })
    }

    /// The names of the types that the file declares at its top level.
    var declaredTypes: [String] {
        code.compactMap { line in
            guard let first = line.first, first != " " else { return nil }
            let words = line.split { !($0.isLetter || $0.isNumber) }
            guard
                let keyword = words.firstIndex(where: {
                    ["class", "struct", "enum", "protocol"].contains($0)
                }),
                keyword + 1 < words.count
            else { return nil }
            return String(words[keyword + 1])
        }
    }

    /// Every function with its number of lines, by indentation: `swift format` keeps that uniform.
    var functionLengths: [(name: String, lines: Int)] {
        var found: [(name: String, lines: Int)] = []
        var open: (name: String, indent: Int, start: Int)?
        for (number, line) in code.enumerated() {
            let indent = line.prefix { $0 == " " }.count
            if let function = open, line.dropFirst(indent).hasPrefix("}"), indent <= function.indent {
                // A requirement of a protocol has no body of its own.
                if indent == function.indent { found.append((function.name, number - function.start + 1)) }
                open = nil
            }
            let words = line.split { !($0.isLetter || $0.isNumber || $0 == "_") }
            guard open == nil, let index = words.firstIndex(where: { $0 == "func" || $0 == "init" }) else {
                continue
            }
            guard !line.hasSuffix("}") else { continue }
            open = (words.dropFirst(index).prefix(2).joined(separator: " "), indent, number)
        }
        return found
    }
}
