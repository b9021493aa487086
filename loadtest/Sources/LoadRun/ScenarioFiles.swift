// Where scenarios lie.

import Foundation

package enum ScenarioFiles {
    private static let folder = "loadtest/scenarios"

    /// The names of those that come with the project, from its root.
    package static var names: [String] {
        let files = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return files.filter { $0.hasSuffix(".yml") }.map { String($0.dropLast(4)) }.sorted()
    }

    /// Reads a scenario by name or path.
    package static func scenario(_ name: String) throws(ScenarioError) -> Scenario {
        let path = name.contains("/") || name.hasSuffix(".yml") ? name : "\(folder)/\(name).yml"
        guard let yaml = try? String(contentsOfFile: path, encoding: .utf8) else {
            let known = names.isEmpty ? "" : "; there are \(names.joined(separator: ", "))"
            throw ScenarioError(description: "no scenario at '\(path)'\(known)")
        }
        let title = URL(fileURLWithPath: path).deletingPathExtension().lastPathComponent
        do throws(ScenarioError) {
            return try Scenario(yaml: yaml, name: title)
        } catch {
            throw ScenarioError(description: "\(path): \(error)")
        }
    }
}
