// Registering and signing in.

import AuctionEvents
import AuctionStore
import Foundation
import Hummingbird
import Tokens

struct AuthRoutes: Sendable {
    let services: Services

    func register(_ request: Request, _ context: AppContext) async throws -> Response {
        let body = try await RequestBodies.decode(RegisterBody.self, from: request)
        guard (3...32).contains(body.username.utf8.count), body.username.utf8.allSatisfy(Self.allowsInName)
        else {
            throw APIError.validation("username: must be 3 to 32 characters of A-Z a-z 0-9 _ . -")
        }
        guard (3...254).contains(body.email.utf8.count), Self.isEmail(body.email) else {
            throw APIError.validation("email: is no e-mail address")
        }
        guard (8...1_024).contains(body.password.unicodeScalars.count) else {
            throw APIError.validation("password: must be 8 to 1024 characters")
        }
        let hash = try await services.passwords.run { PasswordHash.make(body.password) }
        let userID = AuctionID.random(prefix: "usr_").text
        do throws(DatabaseError) {
            try await services.pool.run { connection throws(DatabaseError) in
                try UserRecords.insert(
                    connection, userID: userID, username: body.username, email: body.email, passwordHash: hash
                )
            }
        } catch {
            guard case .conflict(let constraint) = error else { throw error }
            throw constraint == "users_email"
                ? APIError.conflict("EMAIL_TAKEN", "email: is already registered")
                : APIError.conflict("USERNAME_TAKEN", "username: is already registered")
        }
        return session(.created, userID: userID, username: body.username)
    }

    func login(_ request: Request, _ context: AppContext) async throws -> Response {
        let body = try await RequestBodies.decode(LoginBody.self, from: request)
        let login = body.login
        // No user can have such a name.
        guard (1...254).contains(login.utf8.count), !login.utf8.contains(0) else {
            throw APIError.wrongCredentials
        }
        guard body.password.unicodeScalars.count <= 1_024 else { throw APIError.wrongCredentials }
        let user = try await services.pool.run { connection throws(DatabaseError) in
            try UserRecords.find(connection, login: login)
        }
        let isRight = try await services.passwords.run {
            // Hash anyway, so that an unknown name takes as long as a wrong password.
            guard let user else { return PasswordHash.make(body.password).isEmpty }
            return PasswordHash.verify(body.password, against: user.passwordHash)
        }
        guard let user, isRight else {
            throw APIError.wrongCredentials
        }
        guard !user.isBanned else {
            throw APIError.banned
        }
        return session(.ok, userID: user.userID, username: user.username)
    }

    private func session(_ status: HTTPResponse.Status, userID: String, username: String) -> Response {
        let expiresAt = Int(Date.now.timeIntervalSince1970) + Services.tokenSeconds
        let token = AccessToken(subject: userID, expiresAt: expiresAt, audience: "api")
        return .json(status) {
            $0.field("user_id", userID)
            $0.field("username", username)
            $0.field("token", token.signed(with: services.settings.current.signingKey))
            $0.field("expires_at", Timestamp(milliseconds: Int64(expiresAt) * 1_000))
        }
    }

    private static func allowsInName(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "a")...UInt8(ascii: "z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."), UInt8(ascii: "-"):
            true
        default: false
        }
    }

    private static func isEmail(_ text: String) -> Bool {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        return parts.count == 2 && parts.allSatisfy { !$0.isEmpty }
            && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F }
    }
}
