import Foundation
import LocalServers
import Testing
import Yams

/// The Debian package and the other files for deployments, tried as far as a machine without systemd and
/// Kubernetes can.
@Suite struct DeploymentFileTests {
    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private static func text(_ path: String) throws -> String {
        try String(contentsOf: root.appendingPathComponent(path), encoding: .utf8)
    }

    /// A folder into which dpkg installs, with a `systemctl` that only notes what it was asked.
    private final class Target {
        let folder = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8)).root"
        private let tools: String
        private let notes: String

        init() throws {
            tools = folder + ".tools"
            notes = folder + ".systemctl"
            for path in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "run/systemd/system"] {
                try FileManager.default.createDirectory(
                    atPath: "\(folder)/\(path)", withIntermediateDirectories: true)
            }
            for path in ["status", "available"] {
                try "".write(toFile: "\(folder)/var/lib/dpkg/\(path)", atomically: true, encoding: .utf8)
            }
            try FileManager.default.createDirectory(atPath: tools, withIntermediateDirectories: true)
            try "#!/bin/sh\necho \"$*\" >>\(notes)\n".write(
                toFile: tools + "/systemctl", atomically: true, encoding: .utf8)
            try FileManager.default.setAttributes(
                [.posixPermissions: 0o755], ofItemAtPath: tools + "/systemctl")
        }

        func dpkg(_ arguments: String...) throws {
            let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
            let run = try ChildProcess(
                "dpkg",
                [
                    "/usr/bin/env", "PATH=\(tools):\(path):/usr/sbin:/sbin", "dpkg", "--root=\(folder)",
                    "--force-script-chrootless", "--force-depends", "--force-not-root", "--log=/dev/null",
                ] + arguments)
            try #require(run.waitForExit() == 0, "\(run.log)")
        }

        func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: "\(folder)/\(path)") }

        /// What systemctl was asked since the last call.
        func asked() -> [String] {
            let lines = (try? String(contentsOfFile: notes, encoding: .utf8)) ?? ""
            try? FileManager.default.removeItem(atPath: notes)
            return lines.split(separator: "\n").map(String.init)
        }
    }

    @Test("the package installs, releases a running gateway on an upgrade, and leaves nothing when purged")
    func package() throws {
        let out = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8)).deb"
        let programs = URL(fileURLWithPath: Programs.path("gavelcast-gateway")).deletingLastPathComponent()
        let build = try ChildProcess(
            "deb",
            [
                "/usr/bin/env", "GAVELCAST_DEB_COMPRESSION=-Znone",
                Self.root.appendingPathComponent("config/dev/deb.sh").path, "--programs", programs.path,
                "--out", out,
            ])
        try #require(build.waitForExit() == 0, "\(build.log)")
        let package = try #require(
            try FileManager.default.contentsOfDirectory(atPath: out).first { $0.hasSuffix(".deb") })
        let target = try Target()

        try target.dpkg("-i", "\(out)/\(package)")
        #expect(target.asked() == ["daemon-reload"], "installing starts nothing")
        for name in ["gateway", "bidapi"] {
            let program = "\(target.folder)/usr/bin/gavelcast-\(name)"
            let settings = "\(target.folder)/etc/gavelcast/\(name).yml"
            let check = try ChildProcess(name, [program, "--check-config", "--config", settings])
            #expect(check.waitForExit() == 0, "\(check.log)")
            let unit = try String(
                contentsOfFile: "\(target.folder)/lib/systemd/system/gavelcast-\(name).service",
                encoding: .utf8)
            #expect(unit.contains("ExecStart=/usr/bin/gavelcast-\(name) --config /etc/gavelcast/\(name).yml"))
            let page = try ChildProcess(
                "zcat", ["/bin/zcat", "\(target.folder)/usr/share/man/man8/gavelcast-\(name).8.gz"])
            #expect(page.waitForExit() == 0)
            let help = try ChildProcess(name, [program, "--help"])
            #expect(help.waitForExit() == 0)
            let flags = help.log.matches(of: /\n  --([a-z-]+)/).map(\.1)
            #expect(flags.count > 10)
            for flag in flags {
                #expect(
                    page.log.contains("\\-\\-" + flag.replacing("-", with: "\\-")), "no \(flag) in the page")
            }
        }

        try target.dpkg("-i", "\(out)/\(package)")
        #expect(
            target.asked() == [
                "daemon-reload", "try-reload-or-restart gavelcast-gateway.service",
                "try-restart gavelcast-bidapi.service",
            ], "an upgrade is a release")

        #expect(
            try String(contentsOfFile: "\(target.folder)/etc/passwd", encoding: .utf8).contains("gavelcast:"))
        try FileManager.default.createDirectory(
            atPath: "\(target.folder)/var/log/gavelcast", withIntermediateDirectories: true)
        try target.dpkg("--remove", "gavelcast")
        #expect(
            target.asked() == [
                "disable --now gavelcast-gateway.service gavelcast-bidapi.service", "daemon-reload",
            ])
        #expect(!target.exists("usr/bin/gavelcast-gateway"))
        #expect(target.exists("etc/gavelcast/gateway.yml"), "settings stay until the package is purged")
        try target.dpkg("--purge", "gavelcast")
        #expect(!target.exists("etc/gavelcast") && !target.exists("var/log/gavelcast"))
    }

    /// The objects of a manifest, by kind.
    private static func manifest(_ name: String) throws -> [String: [String: Any]] {
        var objects: [String: [String: Any]] = [:]
        for document in try Yams.load_all(yaml: try text("config/kubernetes/\(name).yaml")) {
            let object = try #require(document as? [String: Any])
            objects[try #require(object["kind"] as? String)] = object
        }
        return objects
    }

    /// The value at a path of keys and indices.
    private static func value(_ object: Any?, _ path: any Sendable...) throws -> Any {
        var value = object
        for step in path {
            if let key = step as? String {
                value = (value as? [String: Any])?[key]
            } else if let index = step as? Int {
                value = (value as? [Any])?[index]
            }
        }
        return try #require(value, "nothing at \(path)")
    }

    @Test("the manifests of Kubernetes fit the programs", arguments: ["gateway", "bidapi"])
    func kubernetes(name: String) throws {
        let objects = try Self.manifest(name)
        var settings = try #require(
            try Self.value(objects["ConfigMap"], "data", "\(name).yml") as? String)
        // The key files are made for each cluster.
        let keys = "token-keys: /etc/gavelcast-keys/\(name == "gateway" ? "public" : "keys").json\n"
        #expect(settings.contains(keys), "the gateway must know the bid API's keys")
        settings.replace(keys, with: "")
        let path = Guardian.shared.folder + "/\(UUID().uuidString.prefix(8)).yml"
        try settings.write(toFile: path, atomically: true, encoding: .utf8)
        let program = Programs.path("gavelcast-\(name)")
        let check = try ChildProcess(name, [program, "--check-config", "--config", path])
        #expect(check.waitForExit() == 0, "\(check.log)")

        let listing = try ChildProcess(name, [program, "--print-config", "--config", path])
        #expect(listing.waitForExit() == 0)
        let pod = try Self.value(objects["Deployment"], "spec", "template", "spec")
        let ports = try #require(try Self.value(pod, "containers", 0, "ports") as? [[String: Any]])
        for (setting, port) in zip(["listen", "admin-listen"], ports) {
            #expect(
                listing.log.contains("\(setting): '0.0.0.0:\(try #require(port["containerPort"] as? Int))'"))
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let address = try #require(
                try Self.value(pod, "containers", 0, probe, "httpGet", "path") as? String)
            #expect(address == (probe == "readinessProbe" ? "/readyz" : "/healthz"))
        }
        let grace = try #require(try Self.value(pod, "terminationGracePeriodSeconds") as? Int)
        let drain = listing.log.firstMatch(of: /drain-seconds: (\d+)/).flatMap { Int($0.1) } ?? 0
        #expect(grace > drain + 5, "the drain must end before the pod is killed")
        if name == "gateway" {
            let pause = try #require(
                try Self.value(objects["Deployment"], "spec", "minReadySeconds") as? Int)
            #expect(drain > 0 && pause > drain + 5, "pods must drain one after the other")
        }
        #expect(try Self.value(objects["PodDisruptionBudget"], "spec", "maxUnavailable") as? Int == 1)
    }

    @Test("the kernel knows every setting of the sysctl file")
    func sysctl() throws {
        let lines = try Self.text("config/sysctl/60-gavelcast.conf").split(separator: "\n")
            .filter { !$0.hasPrefix("#") }
        #expect(!lines.isEmpty)
        // A line that begins with a minus may be absent.
        for line in lines where !line.hasPrefix("-") {
            let key = String(try #require(line.split(separator: " ").first))
            let path = "/proc/sys/" + key.replacing(".", with: "/")
            #expect(FileManager.default.fileExists(atPath: path), "no \(key)")
        }
    }
}
